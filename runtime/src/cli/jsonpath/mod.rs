//! `JSONPath` templates as kubectl has them: text with `{...}` parts.
//!
//! What is understood: fields (`.metadata.name`, `['a.b']`), everything (`[*]`, `.*`), one item (`[0]`, `[-1]`), slices (`[0:2]`, `[::2]`),
//! descent (`..name`), filters (`[?(@.name=="x")]`), literals (`{"\n"}`) and `{range ...}{end}`. Anything else is refused when the
//! template is read. A field that is missing prints nothing.

mod evaluate;
mod parse;

use serde_json::Value;

/// A template that has been read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(Vec<Node>);

/// A template that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing jsonpath {template}, {problem}")]
pub(crate) struct TemplateError {
    template: String,
    problem: String,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// printed as it is
    Text(String),
    /// the values of a path
    Print(Path),
    /// the body once per value of a path
    Range(Path, Vec<Node>),
}

/// Where values are found, from the root (`$`) or the current value.
#[derive(Debug, Clone, PartialEq)]
struct Path {
    from_root: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    All,
    Slice { start: Option<i64>, end: Option<i64>, step: usize },
    Index(i64),
    Several(Vec<Step>),
    Descend,
    Filter(Filter),
}

/// A condition on the items of a list: one comparison, or that something is there.
#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Operand,
    test: Option<(Comparison, Operand)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Path),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Template {
    /// Reads a template. As kubectl does, `.metadata.name` and `metadata.name` mean `{.metadata.name}`.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let relaxed = if text.contains('{') {
            text.to_owned()
        } else {
            format!("{{{}{text}}}", if text.starts_with(['.', '[', '$']) { "" } else { "." })
        };
        let wrong = |problem| TemplateError { template: text.to_owned(), problem };
        parse::template(&relaxed).map(Self).map_err(wrong)
    }

    /// What the template prints for `value`.
    pub(crate) fn render(&self, value: &Value) -> String {
        let mut text = String::new();
        evaluate::nodes(&self.0, value, value, &mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Template;

    fn list() -> Value {
        json!({
            "kind": "List",
            "items": [
                {"metadata": {"name": "a", "labels": {"app.io/x": "1"}}, "n": 1, "ok": true,
                 "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53}]},
                {"metadata": {"name": "b"}, "n": 2.5, "ports": []},
            ],
        })
    }

    #[track_caller]
    fn check(template: &str, expected: &str) {
        assert_eq!(Template::parse(template).expect("a template").render(&list()), expected);
    }

    #[test]
    fn fields_items_and_slices() {
        check("{.items[0].metadata.name}", "a");
        check(".items[1].metadata.name", "b");
        check("kind", "List");
        check("{$.kind}", "List");
        check("{.items[-1].metadata.name}", "b");
        check("{.items[*].metadata.name}", "a b");
        check("{.items[0:1].metadata.name}", "a");
        check("{.items[::2].metadata.name}", "a");
        check("{.items[0,1].n}", "1 2.5");
        check("{.items[0]['metadata.name']}", "");
        check("{.items[0].metadata['labels']['app.io/x']}", "1");
        check("{.items[0].metadata.labels.app\\.io/x}", "1");
        check("{.items[0]['n','ok']}", "1 true");
        check("{.items[7].n}", "");
        check("{.none.at.all}", "");
    }

    #[test]
    fn mappings_and_lists_are_printed_as_json() {
        check("{.items[0].metadata}", r#"{"labels":{"app.io/x":"1"},"name":"a"}"#);
        check("{.items[1].ports}", "[]");
    }

    #[test]
    fn filters() {
        check(r#"{.items[?(@.metadata.name=="b")].n}"#, "2.5");
        check(r"{.items[*].ports[?(@.name == 'dns')].port}", "53");
        check("{.items[?(@.n>1)].metadata.name}", "b");
        check("{.items[?(@.n<=1)].metadata.name}", "a");
        check("{.items[?(@.ok)].metadata.name}", "a");
        check("{.items[?(@.ok==true)].metadata.name}", "a");
        check(r#"{.items[?(@.metadata.name!="b")].n}"#, "1");
    }

    #[test]
    fn ranges_and_text() {
        check(r#"{range .items[*]}{.metadata.name}{"\t"}{.n}{"\n"}{end}"#, "a\t1\nb\t2.5\n");
        check("{range .items[*]}[{.metadata.name}{range .ports[*]} {.port}{end}]{end}.", "[a 80 53][b].");
        check("x {.kind} y", "x List y");
    }

    #[test]
    fn descent_finds_every_field_of_a_name() {
        check("{..port}", "80 53");
        check("{.items..name}", "a http dns b");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for template in
            ["{.a", "{range .a}{.b}", "{end}", "{.a[}", "{.a[?(@.b=)]}", "{.a[x]}", "{foo}x", "{.a[?(@.b~=1)]}"]
        {
            let error = Template::parse(template).expect_err(template).to_string();
            assert!(error.starts_with(&format!("error parsing jsonpath {template}, ")), "{error}");
        }
    }
}
