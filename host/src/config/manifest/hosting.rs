//! What a manifest says of hosting: the admin side, its tokens, and what is kept.

use toml::de::DeTable;

use super::walk::{Value, Walk};
use crate::config::listen::ListenAddr;
use crate::config::problem::ValueError;
use crate::config::secret::{SecretSource, TokenSettings};
use crate::config::settings::{ServerSettings, check_app_name, check_env};
use crate::config::tenants::TenantSettings;

const TOKEN_KEYS: &[&str] = &["name", "secret", "tenant"];
const TOKEN_EXAMPLE: &str = "as in `tokens = [{ name = \"ci\", secret = \"file:ci.token\" }]`";

/// Reads the keys of `[server]`.
pub(super) fn read(walk: &mut Walk<'_>, table: &DeTable<'_>, server: &mut ServerSettings) {
    if let Some(addr) = walk.read(table, "admin", |given| ListenAddr::parse(given.text()?)) {
        server.admin = Some(addr.relative_to(walk.folder()));
    }
    if let Some(value) = table.get("tokens") {
        server.tokens = tokens(walk, value);
    }
    walk.set(table, "module_bytes", |given| {
        given.bytes(1024..=256 << 20).map(|bytes| server.module_bytes_max = bytes)
    });
    walk.set(table, "keep", |given| given.count(2..=1000).map(|count| server.versions_kept = count as usize));
    if server.tokens.is_empty()
        && let (Some(ListenAddr::Tcp(_)), Some(value)) = (&server.admin, table.get("admin"))
    {
        let error = ValueError::new("the admin side listens on TCP only with tokens");
        walk.problem(
            value.span(),
            error.help(format!("{TOKEN_EXAMPLE}; or a Unix socket, `unix:admin.sock`")),
        );
    }
}

fn tokens(walk: &mut Walk<'_>, value: &Value<'_>) -> Vec<TokenSettings> {
    let Some(array) = value.get_ref().as_array() else {
        let message = format!("a list is expected here, not {}", value.get_ref().type_str());
        walk.problem(value.span(), ValueError::new(message).help(TOKEN_EXAMPLE));
        return Vec::new();
    };
    let mut tokens: Vec<TokenSettings> = Vec::new();
    for value in array.iter() {
        let Some(token) = token(walk, value) else { continue };
        if tokens.iter().any(|known| known.name == token.name) {
            walk.problem(value.span(), ValueError::new(format!("the token `{}` is there twice", token.name)));
        }
        tokens.push(token);
    }
    tokens
}

/// A tenant with a token deploys by itself: what it may reach has to be said.
pub(super) fn check_tokens(
    walk: &mut Walk<'_>,
    root: &DeTable<'_>,
    tokens: &[TokenSettings],
    tenants: &[TenantSettings],
) {
    let table = root.get("server").and_then(|server| server.get_ref().as_table()?.get("tokens"));
    let places = table.and_then(|tokens| tokens.get_ref().as_array());
    for place in places.into_iter().flat_map(|places| places.iter()) {
        let text = |key: &str| place.get_ref().as_table()?.get(key)?.get_ref().as_str();
        let Some(token) = tokens.iter().find(|token| Some(token.name.as_str()) == text("name")) else {
            continue;
        };
        let Some(name) = &token.tenant else { continue };
        let error = match tenants.iter().find(|tenant| tenant.name == *name) {
            Some(tenant) if !tenant.routes.is_empty() => continue,
            Some(_) => ValueError::new(format!(
                "the tenant `{name}` has a token, and no `routes` of its own"
            ))
            .help(
                "as in `routes = [\"acme.example/*\"]`: whoever has the token could take any route otherwise",
            ),
            None => ValueError::new(format!(
                "the token `{}` is for a tenant `{}`, and there is none",
                token.name,
                name.escape_default()
            ))
            .help("a tenant is a section `[[tenant]]` with a `name`"),
        };
        walk.problem(place.span(), error);
    }
}

fn token(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<TokenSettings> {
    let table = walk.table(value)?;
    walk.check_keys(table, TOKEN_KEYS);
    for key in ["name", "secret"] {
        if !table.contains_key(key) {
            walk.problem(
                value.span(),
                ValueError::new(format!("the token has no `{key}`")).help(TOKEN_EXAMPLE),
            );
        }
    }
    let name = walk.read(table, "name", |given| {
        let name = given.text()?;
        check_app_name(name).map(|()| name.to_owned())
    });
    let folder = walk.folder();
    let secret = walk.read(table, "secret", |given| SecretSource::parse(given.text()?));
    let tenant = walk.read(table, "tenant", |given| given.text().map(str::to_owned));
    Some(TokenSettings { name: name?, secret: secret?.relative_to(folder), tenant })
}

/// Reads the `secrets` of an app: names of variables, and where their values come from.
pub(super) fn secrets(walk: &mut Walk<'_>, value: &Value<'_>) -> Vec<(String, SecretSource)> {
    let Some(table) = walk.table(value) else { return Vec::new() };
    let mut secrets = Vec::new();
    for key in table.keys() {
        let name = key.get_ref().as_ref();
        if let Err(error) = check_env(name, "") {
            walk.problem(key.span(), error);
            continue;
        }
        let folder = walk.folder();
        let source = walk.read(table, name, |given| SecretSource::parse(given.text()?));
        secrets.extend(source.map(|source| (name.to_owned(), source.relative_to(folder))));
    }
    secrets
}

/// Reads the path of an app's health request.
pub(super) fn health(walk: &mut Walk<'_>, table: &DeTable<'_>) -> Option<String> {
    walk.read(table, "health", |given| check_health(given.text()?).map(str::to_owned))
}

/// A path that can be asked for.
pub(crate) fn check_health(path: &str) -> Result<&str, ValueError> {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if path.starts_with('/') && plain && path.len() <= 1024 {
        return Ok(path);
    }
    let error = ValueError::new(format!("`{}` is not the path of a request", path.escape_default()));
    Err(error.help("as in `/healthz`"))
}
