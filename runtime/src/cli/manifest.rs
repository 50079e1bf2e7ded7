//! Reads manifests: YAML or JSON, several documents per file, lists taken apart, every field with its place in the text.
//!
//! Knows nothing of kinds. Everything is read before anything is done, so that a broken document at the end leaves nothing
//! half-made.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::yaml::{self, Places};

/// The largest file in bytes. The server takes 3 MiB for one object; this is room for many of them.
const MAX_SIZE: u64 = 16 << 20;

/// One object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    /// the object
    pub(crate) object: Value,
    source: String,
    places: Places,
}

/// Why manifests cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// no such file or directory
    #[error("the path \"{}\" does not exist{}", .path.display(), hint_for_url(.path))]
    Missing {
        /// as given
        path: PathBuf,
    },
    /// a file or directory that cannot be read
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// the file
        path: PathBuf,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
    /// a file that is no manifest by its size
    #[error("`{}` is larger than {} MiB, which no manifest is: check the file, or split it into several", .path.display(), MAX_SIZE >> 20)]
    TooLarge {
        /// the file
        path: PathBuf,
    },
    /// neither YAML nor JSON
    #[error("{place}: {problem}")]
    Syntax {
        /// file, line, column
        place: String,
        /// what is wrong
        problem: String,
    },
    /// a document that is not an object with `apiVersion` and `kind`
    #[error("{place}: {problem}")]
    NotAnObject {
        /// file, line, column
        place: String,
        /// what is wrong
        problem: &'static str,
    },
    /// a directory or file without objects
    #[error("no objects passed to {command}: `{from}` holds none")]
    Empty {
        /// `apply`, `delete`
        command: &'static str,
        /// as given
        from: String,
    },
}

fn hint_for_url(path: &Path) -> &'static str {
    let is_url = ["http://", "https://"].iter().any(|scheme| path.to_string_lossy().starts_with(scheme));
    if is_url { ": only files are read, so fetch it, e.g. `curl -fsS URL | minipod apply -f -`" } else { "" }
}

impl Manifest {
    /// File, line and column of a field as the API names it (`spec.ingress[0].from`), or of the closest field around it.
    pub(crate) fn place(&self, field: &str) -> String {
        let mut path = field;
        loop {
            if let Some((line, column)) = self.places.get(path) {
                return format!("{}:{line}:{column}", self.source);
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None if path.is_empty() => return self.source.clone(),
                None => path = "",
            }
        }
    }

    /// `metadata.name`, empty without one.
    pub(crate) fn name(&self) -> &str {
        self.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
    }

    /// `metadata.namespace`
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.object.pointer("/metadata/namespace").and_then(Value::as_str)
    }

    /// `apiVersion` and `kind`
    pub(crate) fn type_of(&self) -> (&str, &str) {
        let text = |field| self.object.get(field).and_then(Value::as_str).unwrap_or_default();
        (text("apiVersion"), text("kind"))
    }
}

/// Reads every manifest that `files` name: a file, a directory (its `.yaml`, `.yml` and `.json`, sorted; with `recursive`
/// those below too), or `-` for standard input.
///
/// # Errors
/// The first file or document that cannot be read, with its place.
pub(crate) fn read(files: &[PathBuf], recursive: bool, command: &'static str) -> Result<Vec<Manifest>, ManifestError> {
    let mut manifests = Vec::new();
    for file in files {
        let before = manifests.len();
        if file.as_os_str() == "-" {
            let text = read_text(io::stdin().lock(), Path::new("standard input"))?;
            manifests.extend(parse("STDIN", &text)?);
        } else {
            for path in expand(file, recursive)? {
                let file =
                    fs::File::open(&path).map_err(|source| ManifestError::Read { path: path.clone(), source })?;
                let text = read_text(file, &path)?;
                manifests.extend(parse(&path.display().to_string(), &text)?);
            }
        }
        if manifests.len() == before {
            return Err(ManifestError::Empty { command, from: file.display().to_string() });
        }
    }
    Ok(manifests)
}

/// All of a file that is not too large; reading stops there.
fn read_text(file: impl Read, path: &Path) -> Result<String, ManifestError> {
    let failed = |source| ManifestError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(ManifestError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(text).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
}

fn expand(path: &Path, recursive: bool) -> Result<Vec<PathBuf>, ManifestError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ManifestError::Missing { path: path.to_owned() },
        _ => ManifestError::Read { path: path.to_owned(), source },
    };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(path).map_err(failed)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>().map_err(failed)?;
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        let is_manifest = entry.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known));
        if entry.is_dir() {
            if recursive {
                files.extend(expand(&entry, recursive)?);
            }
        } else if is_manifest {
            files.push(entry);
        }
    }
    Ok(files)
}

/// The objects of one text; `source` is its name in messages.
///
/// # Errors
/// The first document that is no object, with its place.
pub(crate) fn parse(source: &str, text: &str) -> Result<Vec<Manifest>, ManifestError> {
    let documents = yaml::parse(text).map_err(|e| ManifestError::Syntax {
        place: format!("{source}:{}:{}", e.line, e.column),
        problem: e.problem,
    })?;
    let mut manifests = Vec::new();
    for (object, places) in documents {
        flatten(Manifest { object, source: source.to_owned(), places }, &mut manifests)?;
    }
    Ok(manifests)
}

/// Takes lists apart; `null` documents (only comments between two `---`) vanish.
fn flatten(manifest: Manifest, into: &mut Vec<Manifest>) -> Result<(), ManifestError> {
    let refuse = |field, problem| Err(ManifestError::NotAnObject { place: manifest.place(field), problem });
    if manifest.object.is_null() {
        return Ok(());
    }
    if !manifest.object.is_object() {
        return refuse("", "not an object: a manifest has the fields `apiVersion`, `kind` and `metadata`");
    }
    let (api_version, kind) = manifest.type_of();
    if kind.is_empty() {
        return refuse("", "Object 'Kind' is missing: add `kind:`");
    }
    if api_version.is_empty() {
        return refuse("", "Object 'apiVersion' is missing: add `apiVersion:`");
    }
    let Some(items) = manifest.object.get("items").and_then(Value::as_array).filter(|_| kind.ends_with("List")) else {
        into.push(manifest);
        return Ok(());
    };
    // The items of a `PodList` may leave out their own type.
    let implied = (kind != "List").then(|| (api_version.to_owned(), kind.trim_end_matches("List").to_owned()));
    for (index, item) in items.iter().enumerate() {
        let mut object = item.clone();
        if let (Some((api_version, kind)), Some(fields)) = (&implied, object.as_object_mut()) {
            fields.entry("apiVersion").or_insert_with(|| api_version.as_str().into());
            fields.entry("kind").or_insert_with(|| kind.as_str().into());
        }
        let places = below(&manifest.places, &format!("items[{index}]"));
        flatten(Manifest { object, source: manifest.source.clone(), places }, into)?;
    }
    Ok(())
}

fn below(places: &Places, prefix: &str) -> Places {
    let relative = |path: &String| {
        let rest = path.strip_prefix(prefix)?;
        if rest.is_empty() || rest.starts_with('[') { Some(rest) } else { rest.strip_prefix('.') }.map(str::to_owned)
    };
    places.iter().filter_map(|(path, place)| Some((relative(path)?, *place))).collect::<BTreeMap<_, _>>()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use serde_json::json;

    use super::{Manifest, parse, read};

    fn names(manifests: &[Manifest]) -> Vec<&str> {
        manifests.iter().map(Manifest::name).collect()
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        assert_eq!(parse("a.yaml", text).expect_err("refused").to_string(), expected);
    }

    #[test]
    fn several_documents_and_lists_become_single_objects() {
        let text = "# nothing\n---\nkind: Pod\napiVersion: v1\nmetadata:\n  name: a\n---\n---\nkind: List\napiVersion: v1\nitems:\n- kind: Pod\n  apiVersion: v1\n  metadata: {name: b}\n---\nkind: PodList\napiVersion: v1\nitems:\n- metadata: {name: c}\n";
        let manifests = parse("a.yaml", text).expect("a manifest");
        assert_eq!(names(&manifests), ["a", "b", "c"]);
        assert_eq!(manifests[2].type_of(), ("v1", "Pod"));
        assert_eq!(manifests[1].place("metadata.name"), "a.yaml:14:14");
    }

    #[test]
    fn a_field_has_a_place_and_a_missing_one_the_place_around_it() {
        let text = "kind: Pod\napiVersion: v1\nspec:\n  containers:\n  - name: a\n    imagee: b\n";
        let manifest = parse("a.yaml", text).expect("a manifest").remove(0);
        assert_eq!(manifest.place("spec.containers[0].imagee"), "a.yaml:6:5");
        assert_eq!(manifest.place("spec.containers[0].image"), "a.yaml:5:5");
        assert_eq!(manifest.place("metadata.name"), "a.yaml:1:1");
    }

    #[test]
    fn json_is_read_too() {
        let manifests = parse("a.json", r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}"#);
        let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
        assert_eq!(manifests.expect("a manifest").remove(0).object, expected);
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        refused("- a\n", "a.yaml:1:1: not an object: a manifest has the fields `apiVersion`, `kind` and `metadata`");
        refused("---\napiVersion: v1\n", "a.yaml:2:1: Object 'Kind' is missing: add `kind:`");
        refused("kind: Pod\n", "a.yaml:1:1: Object 'apiVersion' is missing: add `apiVersion:`");
        let error = parse("a.yaml", "kind: Pod\nkind: Pod\n").expect_err("a key twice").to_string();
        assert!(error.starts_with("a.yaml:2:1: "), "{error}");
        let error = parse("a.yaml", "kind: [\n").expect_err("no YAML").to_string();
        assert!(error.starts_with("a.yaml:"), "{error}");
    }

    #[test]
    fn a_file_that_never_ends_is_refused() {
        let error = read(&[PathBuf::from("/dev/zero")], false, "apply").expect_err("refused").to_string();
        assert_eq!(
            error,
            "`/dev/zero` is larger than 16 MiB, which no manifest is: check the file, or split it into several"
        );
    }

    #[test]
    fn a_directory_is_read_in_order_and_without_other_files() {
        let dir = tempfile::tempdir().expect("a directory");
        for (file, name) in [("b.yaml", "b"), ("a.yml", "a"), ("c.txt", "c"), ("d.json", "d")] {
            let text = format!("{{\"kind\": \"Pod\", \"apiVersion\": \"v1\", \"metadata\": {{\"name\": \"{name}\"}}}}");
            fs::write(dir.path().join(file), text).expect("written");
        }
        assert_eq!(names(&read(&[dir.path().to_owned()], false, "apply").expect("read")), ["a", "b", "d"]);
        let missing = read(&[PathBuf::from("/no/such")], false, "apply").expect_err("missing");
        assert_eq!(missing.to_string(), "the path \"/no/such\" does not exist");
        let url = read(&[PathBuf::from("https://a.example/b.yaml")], false, "apply").expect_err("no file");
        assert!(
            url.to_string().ends_with(
                "does not exist: only files are read, so fetch it, e.g. `curl -fsS URL | minipod apply -f -`"
            ),
            "{url}"
        );
    }
}
