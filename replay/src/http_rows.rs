//! The rows of an exchange: itself, and the events that it streamed.

use crate::exchange::Exchange;
use crate::output::Output;
use crate::processes::signed;
use crate::tables;

/// A host without its port; an IPv6 address in its brackets.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The rows of the events.
pub(crate) fn events(capture_id: &str, exchange: &Exchange, output: &mut Output<'_>) {
    for event in &exchange.events {
        output.row(&tables::StreamEvent {
            capture_id: capture_id.to_owned(),
            http_id: exchange.http_id,
            idx: event.idx,
            ts: event.ts,
            framing: event.framing.name(),
            direction: if event.sent { "sent" } else { "received" },
            event: event.name.clone(),
            data_len: event.data.len() as i64,
            data: event.data.clone(),
        });
    }
}

/// The row of an exchange on a connection.
pub(crate) fn exchange(
    connection: &tables::Connection,
    (scheme, proc_id): (&str, i64),
    exchange: &mut Exchange,
    output: &mut Output<'_>,
) {
    let (request, response) = (exchange.request.as_deref(), exchange.response.as_deref());
    let (path, query) = request.map(|head| split_target(&head.target)).unwrap_or_default();
    let method = request.map(|head| head.method.clone()).filter(|method| !method.is_empty());
    let field = |head: Option<&crate::message::Head>, name| head.and_then(|head| head.field(name)).map(str::to_owned);
    let version = response.or(request).map(|head| head.version.clone()).unwrap_or_default();
    let row = tables::Http {
        capture_id: connection.capture_id.clone(),
        http_id: exchange.http_id,
        conn_id: connection.conn_id,
        stream_id: exchange.stream_id,
        proc_id,
        protocol_version: version,
        method,
        scheme: scheme.to_owned(),
        server_address: request.and_then(|head| head.host()).map(str::to_owned),
        path,
        query,
        status_code: response.map(|head| head.status.into()).filter(|status| *status != 0),
        request_ts: request.map(|head| head.ts),
        response_ts: response.map(|head| head.ts),
        end_ts: exchange.end_ts,
        request_bytes: signed(exchange.request_body.wire_len),
        response_bytes: signed(exchange.response_body.wire_len),
        request_content_type: field(request, "content-type"),
        response_content_type: field(response, "content-type"),
        content_encoding: field(response, "content-encoding"),
        request_headers: request.map(fields),
        response_headers: response.map(fields),
        // The next stage reads the bodies, too: they are lent to the row.
        request_body: request.map(|_| std::mem::take(&mut exchange.request_body.data)),
        response_body: response.map(|_| std::mem::take(&mut exchange.response_body.data)),
        body_state: exchange.body_state().name(),
        end_reason: exchange.end_reason,
        retry_of: exchange.retry_of,
    };
    output.row(&row);
    exchange.request_body.data = row.request_body.unwrap_or_default();
    exchange.response_body.data = row.response_body.unwrap_or_default();
}

/// Path and query of a request target, which may be a whole URL, or (HTTP/2) missing.
fn split_target(target: &str) -> (Option<String>, Option<String>) {
    if target.is_empty() {
        return (None, None);
    }
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    match path.split_once('?') {
        Some((path, query)) => (Some(path.to_owned()), Some(query.to_owned())),
        None => (Some(path.to_owned()), None),
    }
}

fn fields(head: &crate::message::Head) -> String {
    serde_json::to_string(&head.fields).unwrap_or_default()
}
