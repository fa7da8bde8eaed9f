//! The pages' answers.

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::Site;
use super::pages::Content;
use super::view::View;
use super::visitor::Visitor;
use crate::history::read::{self, OutputLine};
use crate::logging::escaped_bytes;
use crate::page;

/// A page.
pub(super) async fn page(_: Visitor, State(site): State<Site>, uri: Uri) -> Response {
    let content = match View::at(uri.path()) {
        Some(view) => site.pages.content(&view.asked(uri.query())).await,
        None => None,
    };
    let (status, title, html) = match content {
        Some(Content { title, html, .. }) => (StatusCode::OK, title, html),
        None => {
            let text = "There is no such job, run or replica. Old runs are forgotten after a time (history.max_age).";
            (StatusCode::NOT_FOUND, "Not found".to_owned(), page::notice("Not found", text))
        }
    };
    let instance = site.pages.board().status().instance;
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, page::whole(&title, &instance, crate::VERSION, &html)).into_response()
}

/// All that was kept of what an action printed.
pub(super) async fn log(_: Visitor, State(site): State<Site>, Path(action): Path<i64>) -> Response {
    let lines = site.pages.ask(move |database| read::output(database, action)).await;
    if lines.is_empty() {
        return (StatusCode::NOT_FOUND, "nothing was kept\n").into_response();
    }
    let mut text = String::new();
    for line in &lines {
        match line {
            OutputLine::Out(line) => text.push_str(&escaped_bytes(line)),
            OutputLine::Error(line) => text.extend(["! ", &escaped_bytes(line)]),
            OutputLine::Gap(n) => text.push_str(&format!("… {n} lines were not kept …")),
        }
        text.push('\n');
    }
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], text).into_response()
}

/// The style sheet.
pub(super) async fn style(_: Visitor) -> Response {
    asset("text/css; charset=utf-8", page::STYLE)
}

/// The script.
pub(super) async fn script(_: Visitor) -> Response {
    asset("text/javascript; charset=utf-8", page::SCRIPT)
}

/// The picture.
pub(super) async fn icon(_: Visitor) -> Response {
    asset("image/svg+xml", page::ICON)
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text).into_response()
}
