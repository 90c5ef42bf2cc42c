//! Who has apps on this server: what the manifest says of tenants, and where their routes may be.

use super::operator::Operator;
use super::routes::{self, Land};
use super::types::{Refusal, RefusalKind};
use crate::config::{TenantSettings, did_you_mean};

impl Operator {
    /// These are the tenants from now on, under these limits.
    ///
    /// # Errors
    /// Two claim the same routes, or an app that is there belongs to none of them any more.
    pub(super) fn set_tenants(&self, tenants: &[TenantSettings]) -> Result<(), Refusal> {
        let lands: Vec<_> =
            tenants.iter().map(|tenant| Land { tenant: &tenant.name, routes: &tenant.routes }).collect();
        routes::check_lands(&lands)?;
        *self.lands_lock() =
            tenants.iter().map(|tenant| (tenant.name.clone(), tenant.routes.clone())).collect();
        self.deployer().set_tenants(tenants);
        Ok(())
    }

    /// # Errors
    /// There is no such tenant.
    pub(super) fn check_tenant(&self, tenant: Option<&str>) -> Result<(), Refusal> {
        let Some(tenant) = tenant else { return Ok(()) };
        let lands = self.lands_lock();
        if lands.iter().any(|(name, _)| name == tenant) {
            return Ok(());
        }
        let refusal =
            Refusal::new(RefusalKind::Invalid, format!("there is no tenant `{}`", tenant.escape_default()));
        Err(match lands.first() {
            Some(_) => refusal.help(did_you_mean(tenant, lands.iter().map(|(name, _)| name.as_str()))),
            None => refusal.help("a tenant is a section `[[tenant]]` with a `name` in the server's manifest"),
        })
    }
}
