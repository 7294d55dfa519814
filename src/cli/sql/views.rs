//! The statements that make the views, in the words of each engine.

use super::engine::Dialect;
use super::files::{Files, MESSAGES};
use super::past::{DAYS, DEVICES, EPISODES, FILTERS, Past};

/// A view over a file of JSON: its columns, and their types in DuckDB and in DataFusion.
struct View {
    name: &'static str,
    file: &'static str,
    columns: &'static [(&'static str, Type)],
}

#[derive(Clone, Copy)]
enum Type {
    Text,
    Number,
    Whole,
    Time,
    Date,
}

use Type::{Date, Number, Text, Time, Whole};

const VIEWS: [View; 4] = [
    View {
        name: "device",
        file: DEVICES,
        columns: &[
            ("device", Text),
            ("kind", Text),
            ("state", Text),
            ("reason", Text),
            ("since", Time),
            ("last_contact", Time),
            ("timeout", Number),
            ("fleet", Text),
        ],
    },
    View {
        name: "episode",
        file: EPISODES,
        columns: &[
            ("device", Text),
            ("kind", Text),
            ("reason", Text),
            ("began", Time),
            ("ended", Time),
            ("seconds", Number),
            ("ended_by", Text),
            ("last_contact", Time),
        ],
    },
    View {
        name: "day",
        file: DAYS,
        columns: &[
            ("device", Text),
            ("date", Date),
            ("seconds", Whole),
            ("uptime", Number),
            ("alarm", Whole),
            ("upstream", Whole),
            ("unwatched", Whole),
            ("disabled", Whole),
            ("contacts", Whole),
            ("longest_silence", Whole),
        ],
    },
    View {
        name: "device_filter",
        file: FILTERS,
        columns: &[("device", Text), ("filter", Text), ("prefix", Text), ("pattern", Text)],
    },
];

/// Joins topics and filters once for each topic, however many messages it has.
const DEVICE_TOPIC: &str = "CREATE VIEW device_topic AS SELECT DISTINCT f.device, t.topic \
    FROM (SELECT DISTINCT topic FROM message) AS t JOIN device_filter AS f \
    ON starts_with(t.topic, f.prefix) AND ";

/// All statements; those about the monitor's past where it is known.
pub fn of(dialect: Dialect, files: &Files, past: Option<&Past>) -> String {
    let mut statements = vec![];
    statements.extend(messages(dialect, files));
    if let Some(past) = past {
        for view in &VIEWS {
            statements.extend(view.statements(dialect, files, past.is_empty(view.file)));
        }
        let matches = match dialect {
            Dialect::DuckDb => "regexp_full_match(t.topic, f.pattern)",
            Dialect::DataFusion => "regexp_like(t.topic, '^(' || f.pattern || ')$')",
        };
        statements.push(format!("{DEVICE_TOPIC}{matches}"));
    }
    statements.iter().map(|statement| format!("{statement};\n")).collect()
}

fn messages(dialect: Dialect, files: &Files) -> Vec<String> {
    let directory = files.path(MESSAGES).display().to_string();
    match (dialect, files.has_messages()) {
        (Dialect::DuckDb, true) => vec![format!(
            "CREATE VIEW message AS SELECT time, topic, payload, try(decode(payload)) AS text, number, \
             qos, retain FROM read_parquet({}, hive_partitioning = false)",
            quoted(&format!("{directory}/*.parquet"))
        )],
        (Dialect::DataFusion, true) => vec![
            format!(
                "CREATE EXTERNAL TABLE message_file STORED AS PARQUET LOCATION {}",
                quoted(&format!("{directory}/"))
            ),
            "CREATE VIEW message AS SELECT time, topic, payload, TRY_CAST(payload AS VARCHAR) AS text, \
             number, qos, retain FROM message_file"
                .to_owned(),
        ],
        (_, false) => {
            let columns = [
                ("time", "TIMESTAMP WITH TIME ZONE"),
                ("topic", "VARCHAR"),
                ("payload", if dialect == Dialect::DuckDb { "BLOB" } else { "BYTEA" }),
                ("text", "VARCHAR"),
                ("number", "DOUBLE"),
                ("qos", "INTEGER"),
                ("retain", "BOOLEAN"),
            ];
            vec![format!("CREATE VIEW message AS {}", nothing(columns))]
        }
    }
}

/// No row of these columns.
fn nothing<'n>(columns: impl IntoIterator<Item = (&'n str, &'n str)>) -> String {
    let columns: Vec<String> =
        columns.into_iter().map(|(name, kind)| format!("CAST(NULL AS {kind}) AS {name}")).collect();
    format!("SELECT {} WHERE false", columns.join(", "))
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Text => "VARCHAR",
            Number => "DOUBLE",
            Whole => "BIGINT",
            Time => "TIMESTAMP WITH TIME ZONE",
            Date => "DATE",
        }
    }
}

impl View {
    fn statements(&self, dialect: Dialect, files: &Files, is_empty: bool) -> Vec<String> {
        let Self { name, file, columns } = self;
        if is_empty {
            let columns = columns.iter().map(|(column, kind)| (*column, kind.name()));
            return vec![format!("CREATE VIEW {name} AS {}", nothing(columns))];
        }
        let path = quoted(&files.path(file).display().to_string());
        match dialect {
            Dialect::DuckDb => {
                let columns: Vec<String> = columns
                    .iter()
                    .map(|(column, kind)| format!("{column}: '{}'", kind.name()))
                    .collect();
                vec![format!(
                    "CREATE VIEW {name} AS SELECT * FROM read_json({path}, format = 'newline_delimited', \
                     columns = {{{}}})",
                    columns.join(", ")
                )]
            }
            Dialect::DataFusion => {
                let columns: Vec<String> = columns
                    .iter()
                    .map(|(column, kind)| format!("CAST({column} AS {}) AS {column}", kind.name()))
                    .collect();
                let table = format!("{name}_file");
                vec![
                    format!("CREATE EXTERNAL TABLE {table} STORED AS JSON LOCATION {path}"),
                    format!("CREATE VIEW {name} AS SELECT {} FROM {table}", columns.join(", ")),
                ]
            }
        }
    }
}

/// A string in SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
