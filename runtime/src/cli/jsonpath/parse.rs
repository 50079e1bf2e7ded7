//! Reading a template: characters to [`Node`]s.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

use super::{Comparison, Filter, Node, Operand, Path, Step};

type Parsed<T> = Result<T, String>;

/// The parts of a template.
pub(super) fn template(text: &str) -> Parsed<Vec<Node>> {
    let mut reader = Reader { chars: text.chars().peekable() };
    let nodes = reader.nodes(false)?;
    Ok(nodes)
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    /// Text and actions, up to the end or, within a range, to its `{end}`.
    fn nodes(&mut self, in_range: bool) -> Parsed<Vec<Node>> {
        let mut nodes = Vec::new();
        let mut text = String::new();
        loop {
            match self.chars.next() {
                Some('{') => {
                    push_text(&mut nodes, &mut text);
                    if self.action(&mut nodes, in_range)? {
                        return Ok(nodes);
                    }
                }
                Some(c) => text.push(c),
                None if in_range => return Err("unclosed range: `{end}` is missing".to_owned()),
                None => {
                    push_text(&mut nodes, &mut text);
                    return Ok(nodes);
                }
            }
        }
    }

    /// The inside of one `{...}`; true for `{end}`.
    fn action(&mut self, nodes: &mut Vec<Node>, in_range: bool) -> Parsed<bool> {
        loop {
            self.blanks();
            match self.chars.peek().copied() {
                None => return Err("unclosed action: `}` is missing".to_owned()),
                Some('}') => {
                    self.chars.next();
                    return Ok(false);
                }
                Some('"' | '\'') => nodes.push(Node::Text(self.quoted()?)),
                Some('.' | '[' | '$' | '@') => nodes.push(Node::Print(self.path()?)),
                Some(_) => match self.word().as_str() {
                    "range" => {
                        self.blanks();
                        let path = self.path()?;
                        self.blanks();
                        self.expect('}')?;
                        nodes.push(Node::Range(path, self.nodes(true)?));
                        return Ok(false);
                    }
                    "end" => {
                        self.blanks();
                        self.expect('}')?;
                        return if in_range { Ok(true) } else { Err("not in range, nothing to end".to_owned()) };
                    }
                    word => return Err(format!("unrecognized identifier {word}")),
                },
            }
        }
    }

    fn path(&mut self) -> Parsed<Path> {
        let mut path = Path { from_root: false, steps: Vec::new() };
        match self.chars.peek() {
            Some('$') => {
                self.chars.next();
                path.from_root = true;
            }
            Some('@') => {
                self.chars.next();
            }
            _ => {}
        }
        loop {
            match self.chars.peek() {
                Some('.') => {
                    self.chars.next();
                    match self.chars.peek() {
                        Some('.') => {
                            self.chars.next();
                            path.steps.push(Step::Descend);
                            if let Some(step) = self.field()? {
                                path.steps.push(step);
                            }
                        }
                        Some('[') => {}
                        _ => path.steps.extend(self.field()?),
                    }
                }
                Some('[') => {
                    self.chars.next();
                    path.steps.push(self.subscript()?);
                }
                _ => return Ok(path),
            }
        }
    }

    /// A field name behind a dot; a backslash takes the next character as it is.
    fn field(&mut self) -> Parsed<Option<Step>> {
        let mut name = String::new();
        while let Some(&c) = self.chars.peek() {
            match c {
                '\\' => {
                    self.chars.next();
                    name.push(self.chars.next().ok_or("a backslash at the end")?);
                }
                '.' | '[' | ']' | '}' | ')' | ' ' | '=' | '!' | '<' | '>' | '&' | '|' | ',' => break,
                _ => {
                    self.chars.next();
                    name.push(c);
                }
            }
        }
        Ok(match name.as_str() {
            "" => None,
            "*" => Some(Step::All),
            _ => Some(Step::Field(name)),
        })
    }

    fn subscript(&mut self) -> Parsed<Step> {
        self.blanks();
        if self.chars.peek() == Some(&'?') {
            self.chars.next();
            self.expect('(')?;
            let filter = self.filter()?;
            self.blanks();
            self.expect(')')?;
            self.blanks();
            self.expect(']')?;
            return Ok(Step::Filter(filter));
        }
        let mut steps = vec![self.subscript_item()?];
        loop {
            self.blanks();
            match self.chars.next() {
                Some(',') => {
                    self.blanks();
                    steps.push(self.subscript_item()?);
                }
                Some(']') => return Ok(if steps.len() == 1 { steps.remove(0) } else { Step::Several(steps) }),
                _ => return Err("unterminated array: `]` is missing".to_owned()),
            }
        }
    }

    fn subscript_item(&mut self) -> Parsed<Step> {
        match self.chars.peek() {
            Some('"' | '\'') => return Ok(Step::Field(self.quoted()?)),
            Some('*') => {
                self.chars.next();
                return Ok(Step::All);
            }
            _ => {}
        }
        let mut text = String::new();
        while let Some(&c) = self.chars.peek()
            && (c.is_ascii_digit() || matches!(c, ':' | '-'))
        {
            text.push(c);
            self.chars.next();
        }
        let number = |part: &str| match part {
            "" => Ok(None),
            part => part.parse::<i64>().map(Some).map_err(|_| format!("invalid array index {text}")),
        };
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [index] => number(index)?.map(Step::Index).ok_or_else(|| format!("invalid array index {text}")),
            [start, end] => Ok(Step::Slice { start: number(start)?, end: number(end)?, step: 1 }),
            [start, end, step] => {
                let step = number(step)?.unwrap_or(1);
                let step = usize::try_from(step).ok().filter(|s| *s > 0).ok_or("step must be > 0")?;
                Ok(Step::Slice { start: number(start)?, end: number(end)?, step })
            }
            _ => Err(format!("invalid array index {text}")),
        }
    }

    fn filter(&mut self) -> Parsed<Filter> {
        self.blanks();
        let left = self.operand()?;
        self.blanks();
        if self.chars.peek() == Some(&')') {
            return Ok(Filter { left, test: None });
        }
        let mut operator = String::new();
        while let Some(&c) = self.chars.peek()
            && matches!(c, '=' | '!' | '<' | '>' | '~' | '&' | '|')
        {
            operator.push(c);
            self.chars.next();
        }
        let comparison = match operator.as_str() {
            "==" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            other => return Err(format!("unrecognized filter operator {other}")),
        };
        self.blanks();
        Ok(Filter { left, test: Some((comparison, self.operand()?)) })
    }

    fn operand(&mut self) -> Parsed<Operand> {
        match self.chars.peek() {
            Some('@' | '$' | '.') => Ok(Operand::Path(self.path()?)),
            Some('"' | '\'') => Ok(Operand::Literal(Value::String(self.quoted()?))),
            _ => {
                let word = self.word();
                serde_json::from_str(&word)
                    .ok()
                    .filter(|value: &Value| !value.is_array() && !value.is_object())
                    .map(Operand::Literal)
                    .ok_or_else(|| format!("invalid filter operand `{word}`"))
            }
        }
    }

    /// Up to a blank or a bracket.
    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(&c) = self.chars.peek()
            && !matches!(c, ' ' | '}' | ')' | ']' | '{')
        {
            word.push(c);
            self.chars.next();
        }
        word
    }

    fn quoted(&mut self) -> Parsed<String> {
        let quote = self.chars.next();
        let mut text = String::new();
        loop {
            match self.chars.next() {
                c if c == quote => return Ok(text),
                Some('\\') => match self.chars.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c) => text.push(c),
                    None => return Err("unterminated quoted string".to_owned()),
                },
                Some(c) => text.push(c),
                None => return Err("unterminated quoted string".to_owned()),
            }
        }
    }

    fn blanks(&mut self) {
        while self.chars.peek().is_some_and(|c| c.is_whitespace()) {
            self.chars.next();
        }
    }

    fn expect(&mut self, expected: char) -> Parsed<()> {
        match self.chars.next() {
            Some(c) if c == expected => Ok(()),
            Some(c) => Err(format!("expected `{expected}`, got `{c}`")),
            None => Err(format!("expected `{expected}` at the end")),
        }
    }
}

fn push_text(nodes: &mut Vec<Node>, text: &mut String) {
    if !text.is_empty() {
        nodes.push(Node::Text(std::mem::take(text)));
    }
}
