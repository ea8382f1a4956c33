//! One visitor at the metrics' door: HTTP/1.1 (RFC 9112), one page, bounded in time and size.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use events::{Event, ScrapeRefusal};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use policy::model::MetricsAuth;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::Console;
use super::keys::Visitor;

/// How long the head of a request may take to arrive.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long a visitor may stay, whatever it does.
const STAY_MAX: Duration = Duration::from_secs(60);
/// Room for a request's head.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Header fields of a request.
const HEADERS_MAX: usize = 32;
/// The one page.
const PATH: &str = "/metrics";
/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until the visitor leaves or its time is up.
pub(crate) async fn serve(
    console: &Rc<Console>,
    stream: TlsStream<TcpStream>,
    from: SocketAddr,
    auth: MetricsAuth,
) {
    // A reader that comes back later than the wait for a head allows has done nothing wrong.
    let is_served = Cell::new(false);
    let answer = service_fn(|request| {
        is_served.set(true);
        async move { Ok::<_, Infallible>(answer(console, &request, from, auth).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    match timeout(STAY_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_parse() || error.is_parse_too_large() => {
            console.refuse(from, ScrapeRefusal::Request);
        }
        Ok(Err(error)) if error.is_timeout() && !is_served.get() => console.refuse(from, ScrapeRefusal::Busy),
        Ok(Err(error)) => tracing::debug!(%error, %from, "a visitor of the metrics left"),
        Err(_) => tracing::debug!(%from, "a visitor's time is up"),
    }
}

async fn answer(
    console: &Console,
    request: &Request<Incoming>,
    from: SocketAddr,
    auth: MetricsAuth,
) -> Response<Full<Bytes>> {
    let is_own = console.is_own(from);
    // Before anything else is told: a stranger does not even learn which pages there are.
    if auth == MetricsAuth::Token && by_token(console, request) == Visitor::Stranger {
        console.refuse(from, ScrapeRefusal::Token);
        let mut response = plain(StatusCode::UNAUTHORIZED);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    if request.uri().path() != PATH {
        console.refuse(from, ScrapeRefusal::Request);
        return plain(StatusCode::NOT_FOUND);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        console.refuse(from, ScrapeRefusal::Request);
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if !is_own {
        console.witness(&Event::Scraped {});
        console.scraped_at.set(Some(Timestamp::now()));
    }
    page(console).await
}

async fn page(console: &Console) -> Response<Full<Bytes>> {
    match console.exposition().await {
        Ok(text) => {
            let mut response = Response::new(Full::new(Bytes::from(text)));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Who the visitor is by its token (RFC 6750, section 2.1).
fn by_token(console: &Console, request: &Request<Incoming>) -> Visitor {
    let field = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let token = field.and_then(|field| {
        let (scheme, token) = field.split_at_checked(b"Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
    });
    token.map_or(Visitor::Stranger, |token| console.keys.borrow().visitor_by_token(token))
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
