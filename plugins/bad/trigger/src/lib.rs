//! When a hostile plugin does its worst.

use sequin_plugin::prelude::*;

sequin_plugin::config! {
    /// The configuration of hostile plugins: `{"column": "name", "when": "spin"}`.
    pub struct Trigger {
        /// The text column that decides.
        pub column: String,
        /// The value that sets it off.
        pub when: String,
    }
}

impl Trigger {
    /// Whether this is such a row.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn hit(&self, row: &Row<'_>) -> Result<bool, Error> {
        Ok(row.text(&self.column)? == Value::Known(self.when.as_str()))
    }
}

/// Makes a hostile transform: a type with the configuration of a [`Trigger`], and what it does.
#[macro_export]
macro_rules! hostile {
    (
        $(#[$attribute:meta])* pub struct $name:ident;
        transform($trigger:ident, $row:ident, $out:ident) $body:block
    ) => {
        $(#[$attribute])*
        #[derive(Debug, sequin_plugin::serde::Deserialize, sequin_plugin::schemars::JsonSchema)]
        #[serde(crate = "sequin_plugin::serde", transparent)]
        #[schemars(crate = "sequin_plugin::schemars")]
        pub struct $name($crate::Trigger);

        impl sequin_plugin::Plugin for $name {
            fn reads(&self) -> sequin_plugin::Reads {
                sequin_plugin::Reads::columns([&self.0.column])
            }
        }

        impl sequin_plugin::Transform for $name {
            fn transform(
                &self,
                $row: &sequin_plugin::Row<'_>,
                $out: &mut sequin_plugin::Output,
            ) -> Result<(), sequin_plugin::Error> {
                let $trigger = &self.0;
                $body
            }
        }

        sequin_plugin::export_transform!($name);
    };
}
