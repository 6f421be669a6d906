//! What is other in one configuration than in another, resource by resource and field by field, without
//! secrets.

use super::{Id, Portable, Resource, secret};
use crate::moved::Moved;
use crate::tree::{self, Kind, Node};

/// What becomes of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Update,
    Delete,
}

impl Action {
    /// As in the predecessor's API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// A resource that is other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub id: Id,
    /// What becomes of it.
    pub action: Action,
    /// As JSON, without secrets; None of one that is created.
    pub old: Option<String>,
    /// Likewise; None of one that is deleted.
    pub new: Option<String>,
    /// What of it is other, if it is updated.
    pub fields: Vec<Field>,
}

/// A field that is other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its keys, with dots between.
    pub path: String,
    /// As JSON; None where it is not, and of secrets.
    pub old: Option<String>,
    /// Likewise.
    pub new: Option<String>,
    /// It is a secret: that it has changed is all that is told.
    pub is_secret: bool,
}

impl Portable {
    /// What is other than in `old`, in the order of the resources.
    #[must_use]
    pub fn differences(&self, old: &Self) -> Vec<Difference> {
        self.differences_after(old, &[])
    }

    /// What is other than in `old`, where these had another name: that is one more field of theirs.
    #[must_use]
    pub fn differences_after(&self, old: &Self, moved: &[Moved]) -> Vec<Difference> {
        let find = |all: &Self, wanted: &Id| {
            let same = |it: &&Resource| it.kind == wanted.kind && it.name == wanted.name;
            all.resources.iter().find(same).cloned()
        };
        let before = |id: &Id| {
            let found = moved.iter().find(|it| it.to == *id);
            found.map_or_else(|| id.clone(), |it| it.from.clone())
        };
        let is_moved = |id: &Id| moved.iter().any(|it| it.from == *id);
        let mut all = Vec::new();
        for new in &self.resources {
            let (id, shown) = (new.id(), Some(new.shown()));
            match find(old, &before(&id)) {
                None => {
                    let (action, fields) = (Action::Create, Vec::new());
                    all.push(Difference { id, action, old: None, new: shown, fields });
                }
                Some(old) => {
                    let mut fields = Vec::new();
                    compare(Some(&old.node), Some(&new.node), &mut Vec::new(), false, &mut fields);
                    if !fields.is_empty() {
                        let (action, old) = (Action::Update, Some(old.shown()));
                        all.push(Difference { id, action, old, new: shown, fields });
                    }
                }
            }
        }
        let is_gone = |it: &&Resource| find(self, &it.id()).is_none() && !is_moved(&it.id());
        for gone in old.resources.iter().filter(is_gone) {
            let (action, fields) = (Action::Delete, Vec::new());
            let (id, old) = (gone.id(), Some(gone.shown()));
            all.push(Difference { id, action, old, new: None, fields });
        }
        all
    }
}

fn compare(
    old: Option<&Node>,
    new: Option<&Node>,
    path: &mut Vec<String>,
    is_secret: bool,
    fields: &mut Vec<Field>,
) {
    if let (Some(Kind::Map(was)), Some(Kind::Map(is))) =
        (old.map(|it| &it.kind), new.map(|it| &it.kind))
    {
        let gone = was.iter().filter(|entry| is.iter().all(|other| other.key != entry.key));
        for entry in is.iter().chain(gone) {
            path.push(entry.key.clone());
            let of = |node: Option<&Node>| node.and_then(|node| node.get(&entry.key)).cloned();
            let is_secret = is_secret || secret::is_secret(&entry.key);
            compare(of(old).as_ref(), of(new).as_ref(), path, is_secret, fields);
            path.pop();
        }
        return;
    }
    let json = |node: &Node| tree::json(node);
    let (was, is) = (old.map(json), new.map(json));
    if was == is {
        return;
    }
    let key = path.last().map_or("", String::as_str);
    let holds = |node: Option<&Node>| {
        node.and_then(Node::text).is_some_and(|text| secret::is_secret_address(key, text))
    };
    let is_secret = is_secret || holds(old) || holds(new);
    // A list or a map that came or went may hold some, too.
    let shown = |node: &Node| {
        let mut node = node.clone();
        secret::hide(&mut node);
        tree::json(&node)
    };
    let (old, new) = if is_secret { (None, None) } else { (old.map(shown), new.map(shown)) };
    fields.push(Field { path: path.join("."), old, new, is_secret });
}
