//! What changes on a page while someone looks, as server-sent events (HTML, 9.2).
//!
//! Each event is a JSON object: the `id` of an element, and its new content as the server rendered it. The first holds all that may change, the
//! later ones what did; there are two a second at most. When nothing happens a look each minute keeps the ages right, and finds out whether anyone is
//! still there. While nobody is, none of this exists.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Site;
use super::pages::Pages;
use super::view::{View, decoded};
use super::visitor::Visitor;
use crate::clock::Ticks;

/// Between two events.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two looks while an action runs: what it has moved is told by nobody.
const WHILE_ACTING: Duration = Duration::from_secs(1);
/// A look after a change, when the history has it, too.
const SETTLED: Duration = Duration::from_millis(1500);
/// Between two looks while nothing happens.
const QUIET: Duration = Duration::from_secs(50);

/// One who looks at a page.
struct Watch {
    pages: Pages,
    view: View,
    changes: watch::Receiver<u64>,
    /// The digest of what was sent for each element.
    sent: HashMap<String, u64>,
    is_first: bool,
    moves: bool,
    changed: Option<Ticks>,
    _permit: OwnedSemaphorePermit,
}

/// Answers with events of the page that the query names.
pub(super) async fn events(_: Visitor, State(site): State<Site>, uri: Uri) -> Response {
    let path = uri.query().and_then(|query| query.strip_prefix("of=")).and_then(decoded);
    let Some(view) = path.as_deref().and_then(View::at) else {
        return (StatusCode::NOT_FOUND, "events of which page?\n").into_response();
    };
    let Ok(permit) = site.pages.watchers().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many look already\n").into_response();
    };
    let changes = site.pages.board().changes();
    if site.pages.content(&view).await.is_none() {
        // Ends the questions of a client, which would take any other answer for a broken connection.
        return StatusCode::NO_CONTENT.into_response();
    }
    let (sent, pages) = (HashMap::new(), site.pages);
    let watch = Watch { pages, view, changes, sent, is_first: true, moves: false, changed: None, _permit: permit };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event)), watch))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(events)).into_response()
}

impl Watch {
    /// The next event. `None` when what is looked at is no more.
    async fn next(&mut self) -> Option<String> {
        loop {
            let is_quiet = if std::mem::take(&mut self.is_first) { false } else { self.wait().await };
            self.changes.mark_unchanged();
            let content = self.pages.content(&self.view).await?;
            self.moves = content.moves;
            let mut anew = Map::new();
            for (id, html) in content.html.live_parts() {
                let digest = digest(html);
                if self.sent.get(id) != Some(&digest) {
                    self.sent.insert(id.to_owned(), digest);
                    anew.insert(id.to_owned(), Value::from(html));
                }
            }
            if !anew.is_empty() {
                return Some(format!("data: {}\n\n", Value::from(anew)));
            }
            if is_quiet {
                // A comment: whoever has gone does not take it.
                return Some(":\n\n".to_owned());
            }
        }
    }

    /// Waits for something to be told; whether there was nothing for long.
    async fn wait(&mut self) -> bool {
        tokio::time::sleep(PAUSE).await;
        let (patience, is_long) = match self.changed {
            _ if self.moves => (WHILE_ACTING - PAUSE, false),
            Some(at) if at.elapsed() < 2 * SETTLED => (SETTLED, false),
            _ => (QUIET, true),
        };
        tokio::select! {
            changed = self.changes.changed() => {
                self.changed = Some(Ticks::now());
                // Nobody tells any more: the process is about to end.
                changed.is_err()
            }
            () = tokio::time::sleep(patience) => is_long,
        }
    }
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
