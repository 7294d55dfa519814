//! The query of a request's address, `?since=7d&limit=20`.

use super::refusal::HttpRefusal;
use crate::time_span;
use hyper::StatusCode;
use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// The decoded pairs, in their order.
#[derive(Debug)]
pub(super) struct Parameters<'q>(Vec<(Cow<'q, str>, Cow<'q, str>)>);

impl<'q> Parameters<'q> {
    /// Decodes a query, which contains no keys but these.
    pub fn read(query: Option<&'q str>, keys: &[&str]) -> Result<Self, HttpRefusal> {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let pairs: Vec<_> = pairs.collect();
        match pairs.iter().find(|(key, _)| !keys.contains(&key.as_ref())) {
            None => Ok(Self(pairs)),
            Some((key, _)) if keys.is_empty() => Err(bad(format!(
                "unknown parameter `{}`: this path takes none",
                key.escape_debug()
            ))),
            Some((key, _)) => Err(bad(format!(
                "unknown parameter `{}`: this path takes {}",
                key.escape_debug(),
                keys.join(", ")
            ))),
        }
    }

    /// All values of a key.
    pub fn all<'p>(&'p self, key: &'p str) -> impl Iterator<Item = &'p str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_ref())
    }

    /// The value of a key that occurs once at most.
    pub fn one<'p>(&'p self, key: &'p str) -> Result<Option<&'p str>, HttpRefusal> {
        let mut values = self.all(key);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(bad(format!("`{key}` is given twice"))),
        }
    }

    /// A time span in the form of the configuration, such as `90s` or `7d`.
    pub fn span(
        &self,
        key: &str,
        limits: &RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, HttpRefusal> {
        let Some(value) = self.one(key)? else { return Ok(None) };
        let span = time_span::parse(value).map_err(|error| bad(format!("{key}: {error}")))?;
        if limits.contains(&span) {
            return Ok(Some(span));
        }
        let (least, most) = (time_span::format(*limits.start()), time_span::format(*limits.end()));
        Err(bad(format!("{key}: `{value}` is not from {least} to {most}")))
    }

    /// A number in decimal notation.
    pub fn number<N>(&self, key: &str, limits: &RangeInclusive<N>) -> Result<Option<N>, HttpRefusal>
    where
        N: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(value) = self.one(key)? else { return Ok(None) };
        match value.parse().ok().filter(|number| limits.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(bad(format!(
                "{key}: `{}` is not a number from {} to {}",
                value.escape_debug(),
                limits.start(),
                limits.end()
            ))),
        }
    }
}

/// A request that is wrong by itself.
pub(super) fn bad(sentence: impl Into<String>) -> HttpRefusal {
    HttpRefusal::new(StatusCode::BAD_REQUEST, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn sentence<T: std::fmt::Debug>(outcome: Result<T, HttpRefusal>) -> String {
        let refusal = outcome.unwrap_err();
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
        refusal.to_string()
    }

    #[test]
    fn values_are_decoded_and_may_be_repeated() {
        let query = "name=k+%3Cb%3E&name=%C3%A4&since=1h+30min&limit=20";
        let read = Parameters::read(Some(query), &["name", "since", "limit"]).unwrap();
        assert_eq!(read.all("name").collect::<Vec<_>>(), ["k <b>", "ä"]);
        let limits = Duration::ZERO..=DAY;
        assert_eq!(read.span("since", &limits), Ok(Some(Duration::from_secs(5_400))));
        assert_eq!(read.number("limit", &(1..=200)), Ok(Some(20)));
        assert_eq!(Parameters::read(None, &[]).unwrap().one("limit"), Ok(None));
    }

    #[test]
    fn wrong_values_are_refused_with_a_sentence() {
        let read = |query| Parameters::read(Some(query), &["since", "limit"]);
        assert!(sentence(read("sinse=1d")).contains("`sinse`: this path takes since, limit"));
        let limits = Duration::from_secs(1)..=DAY;
        for (query, words) in [
            ("since=1x", "`x` is not a unit"),
            ("since=", "empty"),
            ("since=2d", "from 1s to 1d"),
            ("since=1h&since=2h", "given twice"),
        ] {
            let said = sentence(read(query).unwrap().span("since", &limits));
            assert!(said.contains(words), "{query}: {said}");
        }
        for query in ["limit=0", "limit=201", "limit=-1", "limit=1e9", "limit="] {
            let said = sentence(read(query).unwrap().number("limit", &(1_u16..=200)));
            assert!(said.contains("from 1 to 200"), "{query}: {said}");
        }
    }
}
