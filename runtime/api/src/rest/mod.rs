//! The REST interface.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::server::Shared;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/healthz", get(|| async { "ok" })).with_state(shared)
}
