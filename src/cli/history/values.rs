//! `iotmonitor history NAME --values TOPIC`: the recorded numbers of one of the device's topics.
//!
//! The running monitor says which topics the device has, and `iotmonitor-recorder` reads the messages.

mod chart;

use super::{HistoryFormat, HistoryQuery};
use crate::bus::{Addressee, CallError, Caller};
use crate::cli::command::{fail, in_runtime, suggesting};
use crate::cli::local_time::LocalTime;
use crate::cli::output::{self, OutputError, OutputStyle};
use crate::config::nearest::nearest;
use crate::dbus::Bus;
use crate::printable::escaped;
use crate::recorder::{self, RecordedTopic, RecorderError};
use crate::time_span;
use chart::{Chart, Stretch};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

/// The width of a chart that is not for a terminal.
const WIDTH: usize = 80;

/// The requested contents and format.
#[derive(Debug)]
struct ValuesQuery {
    name: DeviceName,
    topic: TopicName,
    since: Duration,
    format: HistoryFormat,
}

#[derive(Debug, thiserror::Error)]
enum ValuesError {
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("{0}")]
    Recorder(#[from] RecorderError),
    #[error("{0}")]
    Output(#[from] OutputError),
    #[error("`{}` is no topic of `{name}`{}", escaped(.topic.as_str()), remedy(.near.as_deref(), .filters))]
    Foreign { name: DeviceName, topic: TopicName, near: Option<String>, filters: Vec<TopicFilter> },
}

fn remedy(near: Option<&str>, filters: &[TopicFilter]) -> String {
    match (near, filters) {
        (Some(near), _) => format!(", did you mean `{}`?", escaped(near)),
        (None, []) => ", which has no topics".to_owned(),
        (None, filters) => {
            let filters: Vec<String> =
                filters.iter().map(|filter| format!("`{}`", escaped(filter.as_str()))).collect();
            format!(", whose topics are {}", filters.join(", "))
        }
    }
}

/// Prints the values; returns the exit code.
pub fn values(bus: Bus, addressee: Addressee, query: HistoryQuery, topic: TopicName) -> u8 {
    let HistoryQuery { name, since, format, .. } = query;
    let name = match DeviceName::new(name.unwrap_or_default()) {
        Ok(name) => name,
        Err(error) => return fail(&error),
    };
    let query = &ValuesQuery { name, topic, since, format };
    match in_runtime(check(bus, addressee, query)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return fail(&error),
        Err(error) => return fail(&error),
    }
    let printed = match query.format {
        HistoryFormat::Words => draw(query, OutputStyle::of_stdout()),
        HistoryFormat::Csv => hand_over(query, "--csv"),
        HistoryFormat::Json => hand_over(query, "--json"),
    };
    printed.map_or_else(|error| fail(&error), |()| 0)
}

/// Whether the topic is one of the device's.
async fn check(bus: Bus, addressee: Addressee, query: &ValuesQuery) -> Result<(), ValuesError> {
    let caller = Caller::connect(bus, None, addressee).await?;
    let filters = suggesting(&caller, &query.name, caller.topics(&query.name).await).await?;
    if filters.iter().any(|filter| filter.matches(&query.topic)) {
        return Ok(());
    }
    let recorded = recorded(&filters);
    let near = recorded.as_ref().ok().and_then(|topics| {
        let topics = topics.iter().map(|topic| topic.topic.as_str());
        nearest(query.topic.as_str(), topics).map(str::to_owned)
    });
    let (name, topic) = (query.name.clone(), query.topic.clone());
    Err(ValuesError::Foreign { name, topic, near, filters })
}

/// The recorded topics that match these filters.
fn recorded(filters: &[TopicFilter]) -> Result<Vec<RecordedTopic>, RecorderError> {
    if filters.is_empty() {
        return Ok(Vec::new());
    }
    let options = ["topics", "--json", "--"].into_iter();
    let arguments = options.chain(filters.iter().map(TopicFilter::as_str));
    recorder::parse(&recorder::read(recorder::command(arguments))?)
}

/// Lets this process become the other program, which prints all messages. Returns only if that fails.
fn hand_over(query: &ValuesQuery, format: &str) -> Result<(), ValuesError> {
    let since = time_span::format(query.since);
    let arguments = ["values", format, "--since", &since, "--", query.topic.as_str()];
    Err(RecorderError::from(recorder::command(arguments).exec()).into())
}

fn draw(query: &ValuesQuery, look: OutputStyle) -> Result<(), ValuesError> {
    let columns = Chart::columns(look.width.unwrap_or(WIDTH));
    let (since, points) = (time_span::format(query.since), columns.to_string());
    let options = ["values", "--csv", "--since", &since, "--points", &points, "--"];
    let arguments = options.into_iter().chain([query.topic.as_str()]);
    let text = recorder::read(recorder::command(arguments))?;
    let stretches = Stretch::of_csv(&text).ok_or(RecorderError::Unknown)?;
    let topic = escaped(query.topic.as_str());
    if stretches.is_empty() {
        output::print(format!(
            "no numbers of {topic} are recorded in the last {since}; `--csv` shows all its messages\n"
        ))?;
        return Ok(());
    }
    let chart = Chart::new(&stretches, columns, crate::cli::states::unix_now(), query.since);
    output::print(format!("{topic}\n{}", chart.render(&LocalTime::of_this_machine())))?;
    Ok(())
}
