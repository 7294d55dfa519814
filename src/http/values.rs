//! Recorded numbers, which `iotmonitor-recorder` reads in a process of its own: a damaged file ends that
//! process and not the monitor.

use super::answer::{JSON_TYPE, known_form, with_type};
use super::guard::check_token;
use super::page::Page;
use super::parameters::{Parameters, bad};
use super::refusal::HttpRefusal;
use crate::recorder::{self, RecordedTopic, RecorderError};
use crate::time_span::{self, MAX_TIME_SPAN};
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::io;
use std::ops::RangeInclusive;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;

/// The stretch of time that is shown.
const SINCE: RangeInclusive<Duration> = Duration::from_secs(60)..=MAX_TIME_SPAN;

/// The stretch where none is given.
const USUAL: Duration = Duration::from_secs(7 * 24 * 3600);

/// The points of a chart, and those where no number is given.
const POINTS: RangeInclusive<u32> = 1..=2_000;
const USUAL_POINTS: u32 = 300;

/// One process reads at a time, because it takes some megabytes and a processor.
static TURN: Semaphore = Semaphore::const_new(1);

/// The time for which a request waits for its turn, and that of its process.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that a process may print: 2,000 points or some thousand topics.
const MAX_OUTPUT: u64 = 1 << 20;

/// The numbers of a topic over time; without a topic, the device's topics of which there are any.
pub(super) async fn values(
    State(page): State<Page>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, HttpRefusal> {
    check_token(&headers, page.settings.token.as_ref())?;
    let parameters = Parameters::read(query.as_deref(), &["topic", "since", "points"])?;
    let length = parameters.span("since", &SINCE)?.unwrap_or(USUAL);
    let points = points(parameters.one("points")?)?;
    let topic = parameters.one("topic")?.map(TopicName::new).transpose();
    let topic = topic.map_err(|error| bad(error.to_string()))?;
    let device = known_form(name)?;
    let filters = page.daemon.topics(device.clone()).await?;
    let Some(topic) = topic else {
        let topics = serde_json::Value::from(topics_with_numbers(&filters).await?);
        return Ok(with_type(JSON_TYPE, format!("{topics}\n")));
    };
    if !filters.iter().any(|filter| filter.matches(&topic)) {
        let sentence = format!("`{}` is no topic of `{device}`", topic.as_str().escape_debug());
        return Err(HttpRefusal::new(StatusCode::NOT_FOUND, sentence));
    }
    let (since, points) = (time_span::format(length), points.to_string());
    let options = ["values", "--json", "--since", &since, "--points", &points, "--"];
    Ok(with_type(JSON_TYPE, read(options.into_iter().chain([topic.as_str()])).await?))
}

fn points(given: Option<&str>) -> Result<u32, HttpRefusal> {
    let Some(given) = given else { return Ok(USUAL_POINTS) };
    given.parse().ok().filter(|points| POINTS.contains(points)).ok_or_else(|| {
        let (given, least, most) = (given.escape_debug(), POINTS.start(), POINTS.end());
        bad(format!("points: `{given}` is not a number from {least} to {most}"))
    })
}

async fn topics_with_numbers(filters: &[TopicFilter]) -> Result<Vec<String>, HttpRefusal> {
    if filters.is_empty() {
        return Ok(Vec::new());
    }
    let options = ["topics", "--json", "--"].into_iter();
    let printed = read(options.chain(filters.iter().map(TopicFilter::as_str))).await?;
    let topics: Vec<RecordedTopic> = recorder::parse(&printed)?;
    let topics = topics.into_iter().filter(|topic| topic.numbers > 0);
    Ok(topics.map(|topic| topic.topic).collect())
}

/// Waits for its turn, and returns what the program prints.
async fn read<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Vec<u8>, HttpRefusal> {
    let unavailable = |sentence| HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence);
    let turn = tokio::time::timeout(PATIENCE, TURN.acquire()).await;
    let _turn = turn.map_err(|_| unavailable("others are reading recorded messages: try again"))?;
    let mut command = recorder::command(arguments);
    // It has nothing to do with the service manager, the credentials and the directories of this service.
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    match tokio::time::timeout(PATIENCE, run(command.into())).await {
        Ok(output) => Ok(recorder::printed(output.map_err(RecorderError::from)?)?),
        Err(_elapsed) => Err(HttpRefusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("the recorded messages were not read within {} s", PATIENCE.as_secs()),
        )),
    }
}

/// Runs the program to its end. It is killed when nothing waits for it any more, or when it prints too
/// much.
async fn run(mut command: Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::try_join!(all_of(stdout), all_of(stderr))?;
    Ok(Output { status: child.wait().await?, stdout, stderr })
}

async fn all_of(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_OUTPUT + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > MAX_OUTPUT {
        return Err(io::Error::other("it prints more than 1 MiB"));
    }
    Ok(bytes)
}

impl From<RecorderError> for HttpRefusal {
    fn from(error: RecorderError) -> Self {
        let status = match &error {
            RecorderError::NotInstalled => StatusCode::NOT_FOUND,
            // The service may execute only what was there at its start.
            RecorderError::NotRun(reason) if reason.kind() == io::ErrorKind::PermissionDenied => {
                let sentence = "iotmonitor has not been restarted since iotmonitor-recorder was \
                                installed: `systemctl restart iotmonitor` lets it read recorded \
                                messages";
                return HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence);
            }
            RecorderError::NotRun(_) | RecorderError::Failed(_) | RecorderError::Unknown => {
                StatusCode::BAD_GATEWAY
            }
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_program_that_prints_too_much_is_ended() {
        let output = run(shell("echo good; echo bad >&2; exit 3")).await.unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"good\n"[..], &b"bad\n"[..]));
        assert_eq!(output.status.code(), Some(3));
        assert!(run(shell("exec yes")).await.is_err());
        assert!(run(shell("exec yes >&2")).await.is_err());
    }

    #[test]
    fn points_are_bounded() {
        assert_eq!(points(None), Ok(300));
        assert_eq!(points(Some("2000")), Ok(2_000));
        for wrong in ["0", "2001", "-1", "x", ""] {
            assert_eq!(points(Some(wrong)).unwrap_err().status, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
