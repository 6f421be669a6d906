//! Macros that write the parts of a plugin that are the same in all of them.

/// Makes a type a configuration: it can be read, refuses fields that it does not know, and has a
/// JSON Schema with its comments as descriptions.
///
/// ```
/// sequin_plugin::config! {
///     /// What to keep.
///     pub struct Config {
///         /// The column that decides.
///         pub column: String,
///         /// Its value in the rows to keep.
///         #[serde(default)]
///         pub equals: bool,
///     }
/// }
/// ```
#[macro_export]
macro_rules! config {
    ($type:item) => {
        #[derive(::std::fmt::Debug, $crate::serde::Deserialize, $crate::schemars::JsonSchema)]
        #[serde(crate = "sequin_plugin::serde", deny_unknown_fields)]
        #[schemars(crate = "sequin_plugin::schemars")]
        $type
    };
}

/// Writes and exports a [`Filter`](crate::Filter): its configuration, what it reads, and how it
/// judges a row.
///
/// ```
/// use sequin_plugin::prelude::*;
///
/// sequin_plugin::filter! {
///     /// Keeps the rows in which a boolean column is true.
///     pub struct Public {
///         /// The column that decides.
///         column: String,
///     }
///     reads(self) { Reads::columns([&self.column]) }
///     filter(self, row) { Ok(Verdict::keep_if(row.bool(&self.column)?.sent(&self.column)? == Some(true))) }
/// }
/// # fn main() {
/// use sequin_plugin::testing::{filter, row};
/// let rows = [row([("shown", true.into())]), row([("shown", false.into())])];
/// let verdicts = filter::<Public>(r#"{"column": "shown"}"#, &rows).unwrap();
/// assert_eq!(verdicts, [Ok(Verdict::Keep), Ok(Verdict::Evict)]);
/// # }
/// ```
#[macro_export]
macro_rules! filter {
    (
        $(#[$attribute:meta])* $public:vis struct $name:ident { $($field:tt)* }
        reads($reads_self:ident) $reads:block
        filter($self:ident, $row:ident) $filter:block
    ) => {
        $crate::__plugin! {
            $(#[$attribute])* $public struct $name { $($field)* } reads($reads_self) $reads
        }
        impl $crate::Filter for $name {
            fn filter(
                &$self,
                $row: &$crate::Row<'_>,
            ) -> ::std::result::Result<$crate::Verdict, $crate::Error> $filter
        }
        $crate::export_filter!($name);
    };
}

/// Writes and exports a [`Route`](crate::Route), likewise.
///
/// ```
/// use sequin_plugin::prelude::*;
///
/// sequin_plugin::route! {
///     /// Sends the rows of each table to a path of its own.
///     pub struct ByTable { below: String }
///     reads(self) { Reads::nothing() }
///     route(self, sink, row, keys) {
///         if sink == "webhook" {
///             keys.set("endpoint_path", format!("{}/{}", self.below, row.table()));
///         }
///         Ok(())
///     }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! route {
    (
        $(#[$attribute:meta])* $public:vis struct $name:ident { $($field:tt)* }
        reads($reads_self:ident) $reads:block
        route($self:ident, $sink:ident, $row:ident, $keys:ident) $route:block
    ) => {
        $crate::__plugin! {
            $(#[$attribute])* $public struct $name { $($field)* } reads($reads_self) $reads
        }
        impl $crate::Route for $name {
            fn route(
                &$self,
                $sink: &str,
                $row: &$crate::Row<'_>,
                $keys: &mut $crate::Keys<'_>,
            ) -> ::std::result::Result<(), $crate::Error> $route
        }
        $crate::export_route!($name);
    };
}

/// Writes and exports a [`Transform`](crate::Transform), likewise.
///
/// ```
/// use sequin_plugin::prelude::*;
///
/// sequin_plugin::transform! {
///     /// Adds a column with another in capitals.
///     pub struct Upper { column: String, into: String }
///     reads(self) { Reads::columns([&self.column]) }
///     transform(self, row, out) {
///         match row.text(&self.column)? {
///             Value::Known(text) => out.set_text(&self.into, text.to_uppercase()),
///             Value::Null => out.set_null(&self.into),
///             Value::Unchanged => {}
///         }
///         Ok(())
///     }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! transform {
    (
        $(#[$attribute:meta])* $public:vis struct $name:ident { $($field:tt)* }
        reads($reads_self:ident) $reads:block
        transform($self:ident, $row:ident, $out:ident) $transform:block
    ) => {
        $crate::__plugin! {
            $(#[$attribute])* $public struct $name { $($field)* } reads($reads_self) $reads
        }
        impl $crate::Transform for $name {
            fn transform(
                &$self,
                $row: &$crate::Row<'_>,
                $out: &mut $crate::Output,
            ) -> ::std::result::Result<(), $crate::Error> $transform
        }
        $crate::export_transform!($name);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __plugin {
    (
        $(#[$attribute:meta])* $public:vis struct $name:ident { $($field:tt)* }
        reads($self:ident) $reads:block
    ) => {
        $crate::config! {
            $(#[$attribute])* $public struct $name { $($field)* }
        }
        impl $crate::Plugin for $name {
            fn reads(&$self) -> $crate::Reads $reads
        }
    };
}
