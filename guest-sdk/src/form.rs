//! Forms and queries as types of the handler's own, by way of serde.
//!
//! Errors name the field. The deserializer of `serde_html_form` does not, so [`Tracked`] counts which one is being read.

use http::StatusCode;
use serde::de::value::Error as FormError;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use crate::body::COLLECT_BYTES_MAX;
use crate::content::{self, clip};
use crate::error::{Error, Result};
use crate::query::pairs;
use crate::request::Request;

const FORM: &str = "application/x-www-form-urlencoded";

/// Which of the distinct names is being read, counted from 0 in order of first appearance: the order in which
/// `serde_html_form` hands them out.
type Position = Cell<Option<usize>>;

/// A deserializer that leaves in `at` where it failed.
struct Tracked<'a, D> {
    inner: D,
    at: &'a Position,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Tracked<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(TrackedVisitor { inner: visitor, at: self.at })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_seq(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool u8 u16 u32 u64 i8 i16 i32 i64 f32 f64 char str string option bytes byte_buf unit_struct tuple_struct struct
        identifier tuple enum ignored_any map
    }
}

struct TrackedVisitor<'a, V> {
    inner: V,
    at: &'a Position,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for TrackedVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(TrackedMap { inner: map, next: 0, at: self.at })
    }
}

struct TrackedMap<'a, A> {
    inner: A,
    next: usize,
    at: &'a Position,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for TrackedMap<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.at.set(Some(self.next));
        let value = self.inner.next_value_seed(seed)?;
        // What fails between two values (a field that is missing, for one) is named by its own message.
        self.at.set(None);
        self.next += 1;
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

/// The `position`th distinct name of `text`, and how often it is there.
fn name_at(text: &str, position: usize) -> Option<(Cow<'_, str>, usize)> {
    let mut seen = HashSet::new();
    let (name, _) = pairs(text).filter(|(name, _)| seen.insert(name.clone())).nth(position)?;
    let times = pairs(text).filter(|(other, _)| *other == name).count();
    Some((name, times))
}

/// Reads `text`; `what` and `part` are words for the message: "the form", "field".
fn parse<T: DeserializeOwned>(text: &str, what: &str, part: &str) -> Result<T> {
    let at = Cell::new(None);
    let inner = serde_html_form::Deserializer::from_bytes(text.as_bytes());
    T::deserialize(Tracked { inner, at: &at }).map_err(|error: FormError| {
        let why = clip(&error.to_string());
        let message = match at.get().and_then(|position| name_at(text, position)) {
            Some((name, times)) if times > 1 => {
                format!("{what}'s {part} `{}`, given {times} times: {why}", clip(&name))
            }
            Some((name, _)) => format!("{what}'s {part} `{}`: {why}", clip(&name)),
            None => format!("{what}: {why}"),
        };
        Error::status(StatusCode::BAD_REQUEST, message)
    })
}

fn check_type(request: &Request) -> Result<()> {
    match content::media_type(request) {
        Some(given) if given == FORM => Ok(()),
        Some(given) => Err(content::unsupported(&given, FORM)),
        None => Err(content::unsupported("of no given type", FORM)),
    }
}

/// Forms and queries as types, with the feature `form`.
impl Request {
    /// The body, read as a form (`application/x-www-form-urlencoded`), up to [`COLLECT_BYTES_MAX`]. A field that is a
    /// `Vec` takes a name that comes several times; `bool` takes a checkbox.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use tidegate_sdk::{Request, Result};
    ///
    /// #[derive(Deserialize)]
    /// struct SignUp {
    ///     name: String,
    ///     #[serde(default)]
    ///     topics: Vec<String>,
    ///     #[serde(default)]
    ///     newsletter: bool,
    /// }
    ///
    /// fn sign_up(mut request: Request) -> Result<String> {
    ///     let form: SignUp = request.form()?;
    ///     Ok(format!("Welcome, {}: {} topics, newsletter {}\n", form.name, form.topics.len(), form.newsletter))
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # let form = Exchange::post("/").header("content-type", "application/x-www-form-urlencoded");
    /// # let answer = form.body("name=Ada&topics=a&topics=b&newsletter=on").run(sign_up);
    /// # assert_eq!(answer.assert_status(200).text(), "Welcome, Ada: 2 topics, newsletter true\n");
    /// ```
    ///
    /// # Errors
    /// 415 if `Content-Type` says anything else, or nothing; 400 that names the field if one is missing or wrong; else as
    /// [`RequestBody::text`].
    ///
    /// [`RequestBody::text`]: crate::RequestBody::text
    pub fn form<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.form_limited(COLLECT_BYTES_MAX)
    }

    /// As [`Self::form`], up to `bytes_max`.
    ///
    /// ```
    /// use serde::Deserialize;
    /// # use tidegate_sdk::{Request, Result};
    ///
    /// #[derive(Deserialize)]
    /// struct Login {
    ///     name: String,
    /// }
    ///
    /// fn login(mut request: Request) -> Result<String> {
    ///     let form: Login = request.form_limited(1 << 10)?;
    ///     Ok(format!("Hello {}\n", form.name))
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # let form = Exchange::post("/").header("content-type", "application/x-www-form-urlencoded");
    /// # assert_eq!(form.body("name=Ada").run(login).text(), "Hello Ada\n");
    /// ```
    ///
    /// # Errors
    /// As [`Self::form`]; 413 above `bytes_max`.
    pub fn form_limited<T: DeserializeOwned>(&mut self, bytes_max: usize) -> Result<T> {
        check_type(self)?;
        parse_body(self.body().bytes_limited(bytes_max)?)
    }

    /// As [`Self::form`], for async handlers.
    ///
    /// ```
    /// use serde::Deserialize;
    /// # use tidegate_sdk::{Request, Result};
    ///
    /// #[derive(Deserialize)]
    /// struct Login {
    ///     name: String,
    /// }
    ///
    /// async fn login(mut request: Request) -> Result<String> {
    ///     let form: Login = request.form_async().await?;
    ///     Ok(format!("Hello {}\n", form.name))
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # let form = Exchange::post("/").header("content-type", "application/x-www-form-urlencoded");
    /// # assert_eq!(form.body("name=Ada").run(login).text(), "Hello Ada\n");
    /// ```
    ///
    /// # Errors
    /// As [`Self::form`].
    pub async fn form_async<T: DeserializeOwned>(&mut self) -> Result<T> {
        check_type(self)?;
        parse_body(self.body().collect().await?)
    }

    /// The query as a type. Without a query it is read as an empty one.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use tidegate_sdk::{Request, Result};
    ///
    /// #[derive(Deserialize)]
    /// struct Search {
    ///     q: String,
    ///     page: Option<u32>,
    /// }
    ///
    /// fn search(request: Request) -> Result<String> {
    ///     let search: Search = request.query_as()?;
    ///     Ok(format!("{}, page {}\n", search.q, search.page.unwrap_or(1)))
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # assert_eq!(Exchange::get("/?q=chairs").run(search).text(), "chairs, page 1\n");
    /// ```
    ///
    /// # Errors
    /// 400 that names the parameter if one is missing or wrong.
    pub fn query_as<T: DeserializeOwned>(&self) -> Result<T> {
        parse(self.query().unwrap_or_default(), "the query", "parameter")
    }
}

fn parse_body<T: DeserializeOwned>(bytes: Vec<u8>) -> Result<T> {
    // Browsers escape what is not ASCII.
    let text = String::from_utf8(bytes)
        .map_err(|e| Error::status(StatusCode::BAD_REQUEST, "the form is not valid UTF-8").with_source(e))?;
    parse(&text, "the form", "field")
}
