// Bars of past days and hours.
