//! How a version is made: read, checked, compiled and tried out, or not at all. Nothing of it is durable or served.

use serde_json::Value;
use tidegate_store::records::VersionRecord;

use super::audit::now_ms;
use super::hosted::Made;
use super::operator::Operator;
use super::spec::Spec;
use super::types::{Progress, Refusal, RefusalKind, Step};
use super::uploads::{not_uploaded, uploaded};
use crate::guest::program::{self, Facts};

/// Numbers of apps that are not there which are kept. An app that comes to be meanwhile has a change refused at worst.
const NUMBERS_MAX: usize = 1024;

/// What a version is to be made of.
pub(super) struct Recipe<'a> {
    pub(super) name: &'a str,
    pub(super) number: u64,
    pub(super) spec: Spec,
    pub(super) module: &'a str,
    pub(super) note: Option<String>,
    pub(super) by: &'a str,
    /// How its requests go is of interest.
    pub(super) counted: bool,
    /// Nobody has said anything of routes: a guest that serves no requests goes without.
    pub(super) routes_by_default: bool,
}

impl Operator {
    /// A number for a version that is to be: no other has it, whatever becomes of this one.
    pub(super) fn take_number(&self, app: &str) -> u64 {
        let apps = self.apps_lock();
        let next = apps.get(app).map_or(1, |hosted| hosted.record.next);
        let mut numbers = self.numbers_lock();
        if numbers.len() > apps.len() + NUMBERS_MAX {
            numbers.retain(|name, _| apps.contains_key(name));
        }
        drop(apps);
        let last = numbers.entry(app.to_owned()).or_default();
        *last = next.max(*last + 1);
        *last
    }

    /// Reads, checks, compiles and tries out a version. Nothing of it is durable or served.
    pub(super) fn make(
        &self,
        recipe: Recipe<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Made, Refusal> {
        let Recipe { name, number, mut spec, module, note, by, counted, routes_by_default } = recipe;
        progress(Step::Validate.into());
        let path = self.module_path(module)?;
        let mut settings = spec.settings(name, &path)?;
        settings.routes_by_default = routes_by_default;
        let wasm = self.store()?.read_module(module)?.ok_or_else(|| not_uploaded(module))?;
        let hash = blake3::Hash::from_hex(module)
            .map_err(|_| Refusal::new(RefusalKind::Invalid, "`module` is not 64 hexadecimal digits"))?;
        let kind = program::kind(&wasm).map_err(not_taken)?;
        program::check(kind, &wasm, &settings.limits).map_err(not_taken)?;
        progress(Step::Compile.into());
        let mut compiling = |seconds| progress(Progress { step: Step::Compile, seconds: Some(seconds) });
        let program = self.deployer().load(&settings, &wasm, &hash, uploaded(&path), &mut compiling);
        let program = program.map_err(not_taken)?;
        if routes_by_default && !program.serves_http() {
            spec.take_routes_out();
            settings.routes.clear();
        }
        settings.routes_by_default = false;
        let record = VersionRecord {
            number,
            module: module.to_owned(),
            module_bytes: wasm.len() as u64,
            settings: spec.text(),
            facts: facts_record(&program.facts)?,
            created_ms: now_ms(),
            by: by.to_owned(),
            note,
            failed: None,
        };
        let (routes, health) = (settings.routes.clone(), settings.health.clone());
        let app = self.deployer().stock().make(program, settings, hash, number, counted);
        if let Some(path) = health {
            progress(Step::WarmUp.into());
            self.try_out(&app, &path)?;
        }
        Ok(Made { app, record, spec, routes })
    }

    /// Makes a version that is kept again: its code is in the cache, or is compiled once more.
    pub(super) fn remake(&self, app: &str, kept: &VersionRecord) -> Result<Made, Refusal> {
        let recipe = Recipe {
            name: app,
            number: kept.number,
            spec: Spec::read(&kept.settings)?,
            module: &kept.module,
            note: None,
            by: &kept.by,
            counted: true,
            routes_by_default: false,
        };
        let made = self.make(recipe, &mut |_| {})?;
        Ok(Made { record: kept.clone(), ..made })
    }
}

fn facts_record(facts: &Facts) -> Result<Value, Refusal> {
    serde_json::to_value(facts).map_err(|error| Refusal::new(RefusalKind::Internal, error.to_string()))
}

/// Why a module is not taken, with all that is known.
fn not_taken(error: impl Into<anyhow::Error>) -> Refusal {
    Refusal::new(RefusalKind::Module, format!("{:#}", error.into()))
}
