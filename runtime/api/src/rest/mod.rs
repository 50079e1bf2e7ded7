//! The REST interface: one handler for all kinds. Each submodule is one verb.

mod body;
mod create;
mod delete;
mod logs;
mod patch;
mod read;
mod session;
mod update;
mod watch;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use http::{Method, StatusCode};

pub(crate) use self::body::Checks;
pub(crate) use self::create::create;
use crate::kinds::{Kind, Part, Subresource};
use crate::request::{Name, Params, Route};
use crate::shared::Shared;
use crate::status::ApiError;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(serve).with_state(shared)
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match answer(&shared, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn answer(shared: &Arc<Shared>, request: Request) -> Result<Response, ApiError> {
    let route = Route::parse(request.uri().path())?;
    let params = Params::parse(request.uri())?;
    let method = request.method().clone();
    match route {
        Route::Health => Ok("ok".into_response()),
        Route::Discovery(page) if method == Method::GET => Ok(Json(page.render()).into_response()),
        Route::Discovery(_) => Err(ApiError::method_not_allowed()),
        Route::Collection(kind, namespace) => collection(shared, request, kind, namespace, &params).await,
        Route::Object(kind, name) => object(shared, request, kind, name, &params).await,
        Route::Part(kind, name, part) => subresource(shared, request, kind, name, part, &params).await,
    }
}

async fn collection(
    shared: &Arc<Shared>,
    request: Request,
    kind: &'static Kind,
    namespace: Option<String>,
    params: &Params,
) -> Result<Response, ApiError> {
    match *request.method() {
        Method::GET => {
            body::check_accept(&request)?;
            if params.flag("watch")? {
                return watch::watch(shared, kind, namespace.as_deref(), params).await;
            }
            read::list(shared, kind, namespace.as_deref(), params).await.map(ok)
        }
        Method::POST if kind.namespaced && namespace.is_none() => Err(ApiError::method_not_allowed()),
        Method::POST => {
            let checks = Checks::from_params(params)?;
            let (object, warnings) = body::read_object(request, kind, checks).await?;
            let created = create(shared, kind, namespace.as_deref(), object, params.dry_run()?).await?;
            Ok(body::with_warnings((StatusCode::CREATED, Json(created)).into_response(), &warnings))
        }
        Method::DELETE => {
            let options = delete::Options::read(request, params).await?;
            delete::delete_collection(shared, kind, namespace.as_deref(), params, &options).await.map(ok)
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

async fn object(
    shared: &Arc<Shared>,
    request: Request,
    kind: &'static Kind,
    name: Name,
    params: &Params,
) -> Result<Response, ApiError> {
    match *request.method() {
        Method::GET => {
            body::check_accept(&request)?;
            read::get(shared, kind, &name).await.map(ok)
        }
        Method::PUT => put(shared, request, kind, &name, Part::Main, params).await,
        Method::PATCH => patch::patch(shared, request, kind, &name, Part::Main, params).await,
        Method::DELETE => {
            let options = delete::Options::read(request, params).await?;
            delete::delete(shared, kind, &name, &options).await.map(ok)
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

async fn subresource(
    shared: &Arc<Shared>,
    request: Request,
    kind: &'static Kind,
    name: Name,
    part: Subresource,
    params: &Params,
) -> Result<Response, ApiError> {
    match (part, request.method()) {
        (Subresource::Status, &Method::GET) => read::get(shared, kind, &name).await.map(ok),
        (Subresource::Status, &Method::PUT) => put(shared, request, kind, &name, Part::Status, params).await,
        (Subresource::Status, &Method::PATCH) => patch::patch(shared, request, kind, &name, Part::Status, params).await,
        (Subresource::Finalize, &Method::PUT) => put(shared, request, kind, &name, Part::Finalizers, params).await,
        (Subresource::Binding, &Method::POST) => {
            let binding = body::read_json(request).await?;
            update::bind(shared, kind, &name, &binding, params.dry_run()?).await?;
            let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
            Ok((StatusCode::CREATED, Json(status)).into_response())
        }
        (Subresource::Log, &Method::GET) => logs::logs(shared, kind, &name, params).await,
        (Subresource::Exec, &Method::GET | &Method::POST) => session::exec(shared, request, kind, &name, params).await,
        (Subresource::Attach, &Method::GET | &Method::POST) => {
            session::attach(shared, request, kind, &name, params).await
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

async fn put(
    shared: &Arc<Shared>,
    request: Request,
    kind: &'static Kind,
    name: &Name,
    part: Part,
    params: &Params,
) -> Result<Response, ApiError> {
    let checks = Checks::from_params(params)?;
    let (object, warnings) = body::read_object(request, kind, checks).await?;
    let updated = update::update(shared, kind, name, part, params.dry_run()?, |_| Ok(object.clone())).await?;
    Ok(body::with_warnings(ok(updated), &warnings))
}

fn ok(value: serde_json::Value) -> Response {
    Json(value).into_response()
}
