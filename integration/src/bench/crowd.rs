//! Many pods at once.

use std::time::Instant;

use anyhow::Result;

use super::figure::Figure;
use super::pod::{LIMIT, delete, figure};
use super::timing::Series;
use crate::fixture::HELLO_IMAGE;
use crate::lab::Lab;
use crate::wait::until;

/// A hundred pods created at once, until the API says that all of them run.
pub(super) fn hundred_pods(lab: &Lab) -> Result<Figure> {
    let names: Vec<String> = (0..100).map(|n| format!("many-{n}")).collect();
    let documents: Vec<String> = names
        .iter()
        .map(|name| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: many}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: a, image: '{HELLO_IMAGE}', command: [sleep, '1000000']}}]}}}}"
            )
        })
        .collect();
    let start = Instant::now();
    lab.apply(&documents.join("\n---\n"));
    until("a hundred running pods", LIMIT, || {
        let path = "jsonpath={.items[*].status.phase}";
        let phases = lab.minipod(&["get", "pods", "-l", "app=many", "-o", path]).stdout;
        (phases.split_whitespace().filter(|phase| *phase == "Running").count() == 100).then_some(())
    })?;
    let mut series = Series::default();
    series.add_value(start.elapsed().as_secs_f64());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    delete(lab, &names)?;
    Ok(figure("100 pods at once, all running", "s", &series, 8.0))
}
