//! `tracing` events of any module, as entries.

use std::fmt::{Debug, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::format::{Entry, Subject};
use super::sink::Sink;
use crate::config::{ActionId, JobId};
use crate::event::RunId;

/// Writes events to the sink. The fields `run_id`, `job_id` and `action_id` are what the entry is about; any other
/// follows the message as `name=value`.
pub(super) struct SinkLayer(Arc<Sink>);

impl SinkLayer {
    pub fn new(sink: Arc<Sink>) -> Self {
        Self(sink)
    }
}

impl<S: Subscriber> Layer<S> for SinkLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let text = fields.message + &fields.others;
        self.0.entry(&Entry {
            at: crate::clock::now(),
            level: *event.metadata().level(),
            subject: Subject { run: fields.run, job: fields.job.as_ref(), action: fields.action.as_ref() },
            text: text.trim_start(),
        });
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: String,
    run: Option<RunId>,
    job: Option<JobId>,
    action: Option<ActionId>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "job_id" => self.job = Some(JobId::new(value)),
            "action_id" => self.action = Some(ActionId::new(value)),
            name => write!(self.others, " {name}={value}").expect("a String takes everything"),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "run_id" => self.run = Some(RunId(value)),
            _ => self.record_debug(field, &value),
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::logging::Format;
    use crate::logging::tests_support::{Shared, log};

    fn logged(format: Format, emit: impl FnOnce()) -> String {
        let out = Shared::default();
        let log = log(format, LevelFilter::INFO, &out);
        log.set_rsync_id("laptop");
        let subscriber = tracing_subscriber::registry().with(SinkLayer::new(Arc::clone(&log.0)));
        tracing::subscriber::with_default(subscriber, emit);
        out.text()
    }

    #[test]
    fn an_event_is_a_line_with_its_fields_behind_it() {
        let text = logged(Format::Human, || {
            tracing::warn!(port = 9090, path = "a\x1bb", error = %"no", "cannot listen");
            tracing::debug!("not at this level");
        });
        let (_, line) = text.split_once(' ').expect("a time");
        assert_eq!(line, "WARN  cannot listen port=9090 path=a\\x1bb error=no\n");
    }

    #[test]
    fn ids_are_what_the_event_is_about() {
        let text = logged(Format::Json, || {
            tracing::error!(run_id = 42_u64, job_id = "nightly", action_id = %"photos", "lost");
        });
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["run_id"], 42);
        assert_eq!(value["job_id"], "nightly");
        assert_eq!(value["action_id"], "photos");
        assert_eq!(value["rsync_id"], "laptop");
        assert_eq!(value["message"], "lost");
    }
}
