//! Evaluating a template on a value.

use std::cmp::Ordering;

use serde_json::Value;

use super::super::sorted::sorted;
use super::{Comparison, Filter, Node, Operand, Path, Step};

/// Appends what `nodes` print for the current value.
pub(super) fn nodes(nodes: &[Node], root: &Value, current: &Value, text: &mut String) {
    for node in nodes {
        match node {
            Node::Text(literal) => text.push_str(literal),
            Node::Print(path) => {
                let printed: Vec<String> = values(path, root, current).into_iter().map(print).collect();
                text.push_str(&printed.join(" "));
            }
            Node::Range(path, body) => {
                for value in values(path, root, current) {
                    self::nodes(body, root, value, text);
                }
            }
        }
    }
}

fn print(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => sorted(other).to_string(),
    }
}

fn values<'a>(path: &Path, root: &'a Value, current: &'a Value) -> Vec<&'a Value> {
    let start = if path.from_root { root } else { current };
    path.steps.iter().fold(vec![start], |found, step| found.into_iter().flat_map(|v| take(step, root, v)).collect())
}

fn take<'a>(step: &Step, root: &'a Value, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name.as_str()).into_iter().collect(),
        Step::All => children(value),
        Step::Index(index) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            position(*index, items.len()).and_then(|i| items.get(i)).into_iter().collect()
        }
        Step::Slice { start, end, step } => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let clamp = |index: i64| position(index, items.len()).unwrap_or(0).min(items.len());
            let (start, end) = (start.map_or(0, clamp), end.map_or(items.len(), clamp));
            items.get(start..end).unwrap_or_default().iter().step_by(*step).collect()
        }
        Step::Several(steps) => steps.iter().flat_map(|step| take(step, root, value)).collect(),
        Step::Descend => descendants(value),
        Step::Filter(filter) => children(value).into_iter().filter(|item| holds(filter, root, item)).collect(),
    }
}

/// Negative positions count from the end.
fn position(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn descendants(value: &Value) -> Vec<&Value> {
    let mut all = vec![value];
    for child in children(value) {
        all.extend(descendants(child));
    }
    all
}

fn holds(filter: &Filter, root: &Value, item: &Value) -> bool {
    let resolve = |operand: &Operand| match operand {
        Operand::Literal(value) => Some(value.clone()),
        Operand::Path(path) => values(path, root, item).first().map(|v| (*v).clone()),
    };
    let left = resolve(&filter.left);
    let Some((comparison, right)) = &filter.test else { return left.is_some() };
    let (Some(left), Some(right)) = (left, resolve(right)) else { return false };
    match comparison {
        Comparison::Equal => compare(&left, &right) == Some(Ordering::Equal),
        Comparison::NotEqual => compare(&left, &right) != Some(Ordering::Equal),
        Comparison::Less => compare(&left, &right) == Some(Ordering::Less),
        Comparison::LessOrEqual => compare(&left, &right).is_some_and(Ordering::is_le),
        Comparison::Greater => compare(&left, &right) == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => compare(&left, &right).is_some_and(Ordering::is_ge),
    }
}

fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => (left == right).then_some(Ordering::Equal),
    }
}
