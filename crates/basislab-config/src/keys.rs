//! How keys are declared: a struct or an enum of the configuration and its schema are one declaration.

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// Its meaning, as its doc comment states it; [`Key::about`] is the text for messages.
    pub about: &'static str,
    /// The value, as TOML, that it gets where only the `kind` of its table is named; `None` where it must be written.
    pub preset: Option<&'static str>,
    /// Whether a table may be without it.
    pub optional: bool,
}

impl Key {
    /// What it means, for messages.
    pub fn about(&self) -> String {
        let about = self.about.trim().trim_end_matches('.');
        let mut letters = about.chars();
        letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
    }
}

/// Type and range of a key.
#[derive(Debug)]
pub enum Kind {
    /// An integer, bounds included.
    Integer(u64, u64),
    /// A finite number, bounds included.
    Float(f64, f64),
    /// A finite number, lower bound included, upper excluded.
    FloatBelow(f64, f64),
    /// A finite number above 0, up to this.
    Positive(f64),
    /// A finite number of either sign.
    Finite,
    /// `true` or `false`.
    Bool,
    /// Text of at most this many characters.
    Text(usize),
    /// A [`crate::RunName`].
    Name,
    /// A list of names, at least this many.
    Names(usize),
    /// A list of at least one list of names, none of them empty.
    NameLists,
    /// A [`crate::SitePattern`].
    Site,
    /// A list of them.
    Sites,
    /// A [`crate::StepPattern`].
    Step,
    /// One of these.
    Choice(&'static [Choice]),
    /// A list of distinct ones of these.
    Choices(&'static [Choice]),
    /// A list of distinct seeds.
    Seeds,
    /// A table with these keys.
    Table(&'static [Key]),
    /// A table whose `kind` names the variant.
    Tagged(&'static [Variant]),
    /// An optimizer: a table whose `kind` names a rule, or whose `groups` name one for each role.
    Optimizer,
    /// A list of tables with these keys, told apart by `name`.
    Named(&'static [Key]),
    /// A list of tables with these keys, told apart by their place.
    List(&'static [Key]),
    /// A list of arms: names with changes to the shared tables.
    Arms,
    /// A `[[grid]]`, whose keys are keys of arms.
    Grids,
}

impl Kind {
    /// Whether its values are text, which `--set` takes as it stands.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Name | Self::Site | Self::Choice(_))
    }
}

/// A value of a key that has a few.
#[derive(Debug)]
pub struct Choice {
    /// The value.
    pub name: &'static str,
    /// Its meaning.
    pub about: &'static str,
}

/// One value of `kind` and the keys that go with it.
#[derive(Debug)]
pub struct Variant {
    /// The value of `kind`.
    pub name: &'static str,
    /// Its meaning.
    pub about: &'static str,
    /// The other keys of the table.
    pub keys: &'static [Key],
}

/// The largest seed.
pub const MAX_SEED: u64 = (1 << 40) - 1;
/// Seeds of an experiment at most.
pub const MAX_SEEDS: usize = 4096;

/// Whether the word after a key's kind, if there is one, is `optional`.
pub(crate) const fn is_optional(word: &[&'static str]) -> bool {
    matches!(word, [word] if matches!(word.as_bytes(), b"optional"))
}

/// The preset after a key's kind, if there is one.
pub(crate) const fn preset_of(text: &[&'static str]) -> Option<&'static str> {
    if let [preset] = text { Some(preset) } else { None }
}

/// Whether a value is its type's default.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The schema of keys written as `/// about` `key: Type = Kind, preset "value";`. `optional` instead of a preset lets a
/// table do without the key; `#[serde(default, skip_serializing_if = "is_default")]` with it gives it its type's default and
/// leaves the identity of runs without the key as it is.
macro_rules! keys {
    ($($(#[doc = $about:literal])+ $(#[serde($($serde:tt)+)])? $key:ident: $type:ty = $kind:expr $(, $word:ident $($preset:literal)?)?;)*) => {
        &[$(crate::keys::Key {
            name: stringify!($key),
            kind: $kind,
            about: concat!($($about),+),
            preset: crate::keys::preset_of(&[$($($preset)?)?]),
            optional: crate::keys::is_optional(&[$(stringify!($word))?]),
        }),*]
    };
}

/// A table of the configuration: a struct whose fields are its keys.
macro_rules! table {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $($(#[doc = $about:literal])+ $(#[serde($($serde:tt)+)])? $key:ident: $type:ty = $kind:expr $(, $word:ident $($preset:literal)?)?;)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $about])+ $(#[serde($($serde)+)])? pub $key: $type,)*
        }

        impl $name {
            pub(crate) const KEYS: &'static [crate::keys::Key] =
                crate::keys::keys! { $($(#[doc = $about])+ $key: $type = $kind $(, $word $($preset)?)?;)* };
        }
    };
}

/// A table of the configuration whose `kind` tells which keys it has: an enum.
macro_rules! tagged {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident {
            $($(#[doc = $about:literal])+ $variant:ident = $kind_name:literal {
                $($(#[doc = $key_about:literal])+ $(#[serde($($serde:tt)+)])? $key:ident: $type:ty = $kind:expr $(, $word:ident $($preset:literal)?)?;)*
            })*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "kind", deny_unknown_fields)]
        pub enum $name {
            $(
                $(#[doc = $about])+
                #[serde(rename = $kind_name)]
                $variant { $($(#[doc = $key_about])+ $(#[serde($($serde)+)])? $key: $type,)* },
            )*
        }

        impl $name {
            pub(crate) const KIND: crate::keys::Kind = crate::keys::Kind::Tagged(&[$(crate::keys::Variant {
                name: $kind_name,
                about: concat!($($about),+),
                keys: crate::keys::keys! { $($(#[doc = $key_about])+ $key: $type = $kind $(, $word $($preset)?)?;)* },
            }),*]);

            /// Its `kind` in configurations.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $kind_name,)*
                }
            }
        }
    };
}

/// An enum without fields whose variants have names in configurations and tables. Where it derives `Default`, the word
/// `default` follows the name of one.
#[macro_export]
macro_rules! choice {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident {
            $($(#[doc = $about:literal])+ $variant:ident = $text:literal $($default:ident)?,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[doc = $about])+ #[serde(rename = $text)] $(#[$default])? $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// Their names, in that order.
            pub const NAMES: &'static [&'static str] = &[$($text),*];
            /// Their names with their meanings, in that order.
            pub const CHOICES: &'static [$crate::Choice] =
                &[$($crate::Choice { name: $text, about: concat!($($about),+) }),*];
            /// A key that holds one of them.
            pub const KIND: $crate::Kind = $crate::Kind::Choice(Self::CHOICES);

            /// Its name in configurations and tables.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

pub(crate) use {crate::choice, keys, table, tagged};
