//! Returns without a response, which the client sees as a 502.

use tidegate_sdk::{Request, ResponseWriter, Result, handler};

#[handler]
fn silent(_request: Request, _response: ResponseWriter) -> Result<()> {
    Ok(())
}
