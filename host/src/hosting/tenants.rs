//! Who has apps on this server: what the manifest says of tenants, and where their routes may be.

use super::operator::Operator;
use super::routes::{self, Land};
use super::types::{Refusal, RefusalKind};
use crate::config::{TenantSettings, did_you_mean};

impl Operator {
    /// These are the tenants from now on, under these limits.
    ///
    /// # Errors
    /// Two claim the same routes. Apps that are there go on as they are: what does not fit is refused when they change.
    pub(super) fn set_tenants(&self, tenants: &[TenantSettings]) -> Result<(), Refusal> {
        let lands: Vec<_> = tenants.iter().map(Land::of).collect();
        routes::check_lands(&lands)?;
        *self.tenants_lock() = tenants.to_vec();
        self.deployer().set_tenants(tenants);
        Ok(())
    }

    /// # Errors
    /// There is no such tenant.
    pub(super) fn check_tenant(&self, tenant: Option<&str>) -> Result<(), Refusal> {
        let Some(tenant) = tenant else { return Ok(()) };
        let tenants = self.tenants_lock();
        if tenants.iter().any(|known| known.name == tenant) {
            return Ok(());
        }
        let refusal =
            Refusal::new(RefusalKind::Invalid, format!("there is no tenant `{}`", tenant.escape_default()));
        Err(match tenants.first() {
            Some(_) => refusal.help(did_you_mean(tenant, tenants.iter().map(|known| known.name.as_str()))),
            None => refusal.help("a tenant is a section `[[tenant]]` with a `name` in the server's manifest"),
        })
    }
}
