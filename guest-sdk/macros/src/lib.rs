//! The `#[handler]` and `#[connection]` attributes of `tidegate-sdk`.
//!
//! It reads no more of a function than its shape, leaves the function as it is, and adds the export that the host
//! calls: a module's or a component's. Everything else is a plain function in the SDK, so that a new version of either
//! works with the other.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, Ident, ItemFn, ReturnType, Signature};

/// Exports a function as the handler of the module or component. It has one.
///
/// Three shapes, the first two of them as `fn` and as `async fn`:
/// - `fn(Request) -> R`, where `R` is a `Response` or anything else that implements `IntoResponse`;
/// - `fn(Request, ResponseWriter) -> Result<(), E>`, which writes its response bit by bit;
/// - `fn() -> Router`, which is called once per instance, before its first request.
///
/// On targets other than wasm the function stays what it was, so that it can be called from tests.
///
/// ```standalone_crate
/// # // The SDK builds on this crate, not the other way round: what is hidden here stands in for it.
/// # extern crate self as tidegate_sdk;
/// # pub use tidegate_macros::handler;
/// # pub struct Request;
/// # impl Request {
/// #     pub fn path(&self) -> &str {
/// #         "/"
/// #     }
/// # }
/// # pub struct Response;
/// # impl Response {
/// #     pub fn text(_: String) -> Self {
/// #         Self
/// #     }
/// # }
/// # pub mod __private {
/// #     pub fn run<R>(_: impl FnOnce(crate::Request) -> R) -> i32 {
/// #         0
/// #     }
/// # }
/// # mod module {
/// use tidegate_sdk::{Request, Response, handler};
///
/// #[handler]
/// fn hello(request: Request) -> Response {
///     Response::text(format!("Hello from {}\n", request.path()))
/// }
/// # }
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn handler(attribute: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(attribute.into(), item.into()).into()
}

/// Exports a function as what serves the connections of the app: raw TCP, of a listener that is the app's in the
/// manifest (`[[listen]] tcp = "127.0.0.1:7000"`, `app = "lines"`). A module has one, with or without a handler beside
/// it.
///
/// Two shapes, `fn(TcpStream) -> R` and `async fn(TcpStream) -> R`, where `R` is nothing or a `Result<(), E>`. When it
/// returns, the connection is closed.
///
/// Modules only: in a component it does not compile, since there an ordinary program listens, by `std::net`.
///
/// ```standalone_crate
/// # // The SDK builds on this crate, not the other way round: what is hidden here stands in for it.
/// # extern crate self as tidegate_sdk;
/// # pub use tidegate_macros::connection;
/// # pub type Result<T> = std::io::Result<T>;
/// # pub mod net {
/// #     pub type TcpStream = std::net::TcpStream;
/// # }
/// # pub mod __private {
/// #     pub fn connection<R>(_: i32, _: impl FnOnce(crate::net::TcpStream) -> R) -> i32 {
/// #         0
/// #     }
/// # }
/// # mod module {
/// use std::io::{BufRead, BufReader, Write};
/// use tidegate_sdk::{Result, connection, net::TcpStream};
///
/// #[connection]
/// fn shout(stream: TcpStream) -> Result<()> {
///     for line in BufReader::new(&stream).lines() {
///         writeln!(&stream, "{}", line?.to_uppercase())?;
///     }
///     Ok(())
/// }
/// # }
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn connection(
    attribute: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    beside(item.clone().into(), export_connection(attribute.into(), item.into())).into()
}

fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    beside(item.clone(), export(attribute, item))
}

/// The function as it is, and what goes beside it.
fn beside(item: TokenStream, exports: Result<TokenStream, Error>) -> TokenStream {
    match exports {
        Ok(exports) => quote! { #item #exports },
        // The function stays, or every use of it would be an error too.
        Err(error) => {
            let error = error.to_compile_error();
            quote! { #item #error }
        }
    }
}

/// The exports that go beside the function.
fn export(attribute: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    if !attribute.is_empty() {
        return Err(Error::new(attribute.span(), "#[handler] takes no arguments"));
    }
    let function: ItemFn = syn::parse2(item).map_err(|_| {
        Error::new(
            Span::call_site(),
            "#[handler] goes on a function: `fn(Request) -> Response`, or `fn() -> Router`",
        )
    })?;
    let signature = &function.sig;
    check(signature)?;
    let adapter = adapter(signature)?;

    let name = &signature.ident;
    // What does not fit is reported where the signature says so.
    let result = match &signature.output {
        ReturnType::Default => signature.span(),
        ReturnType::Type(_, ty) => ty.span(),
    };
    let adapter = Ident::new(adapter, result);
    let call = quote_spanned! {result=> ::tidegate_sdk::__private::#adapter(#name) };
    Ok(quote! {
        const _: () = {
            // Native builds check the types as well, so that `cargo check` and tests find what is wrong.
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn() -> i32 = || #call;

            #[cfg(all(target_arch = "wasm32", not(target_env = "p2")))]
            #[unsafe(no_mangle)]
            extern "C" fn tidegate_handle() -> i32 {
                #call
            }

            #[cfg(all(target_arch = "wasm32", target_env = "p2"))]
            ::tidegate_sdk::__export_component!(#call);
        };
    })
}

/// The export of a function that serves connections.
fn export_connection(attribute: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    if !attribute.is_empty() {
        return Err(Error::new(attribute.span(), "#[connection] takes no arguments"));
    }
    let function: ItemFn = syn::parse2(item).map_err(|_| {
        Error::new(Span::call_site(), "#[connection] goes on a function: `fn(TcpStream) -> Result<()>`")
    })?;
    let signature = &function.sig;
    check(signature)?;
    if signature.inputs.len() != 1 {
        return Err(Error::new(
            signature.inputs.span(),
            "what serves a connection takes a `tidegate_sdk::net::TcpStream`, and nothing else",
        ));
    }
    let name = &signature.ident;
    let result = match &signature.output {
        ReturnType::Default => signature.span(),
        ReturnType::Type(_, ty) => ty.span(),
    };
    let adapter = if signature.asyncness.is_some() { "connection_async" } else { "connection" };
    let adapter = Ident::new(adapter, result);
    let call = quote_spanned! {result=> ::tidegate_sdk::__private::#adapter(handle, #name) };
    Ok(quote! {
        const _: () = {
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(i32) -> i32 = |handle| #call;

            #[cfg(all(target_arch = "wasm32", not(target_env = "p2")))]
            #[unsafe(no_mangle)]
            extern "C" fn tidegate_connection(handle: i32) -> i32 {
                #call
            }

            #[cfg(all(target_arch = "wasm32", target_env = "p2"))]
            ::core::compile_error!(
                "#[connection] is for modules (--target wasm32-wasip1): a component that listens is an ordinary program \
                 with a `main` and a `std::net::TcpListener`"
            );
        };
    })
}

/// Which function of the SDK runs a handler of this shape.
fn adapter(signature: &Signature) -> Result<&'static str, Error> {
    let returns_nothing = matches!(signature.output, ReturnType::Default);
    let end = signature.paren_token.span.close();
    match (signature.inputs.len(), &signature.asyncness) {
        (0, Some(keyword)) => Err(Error::new(
            keyword.span(),
            "a function that builds a router is a plain `fn() -> Router`; its handlers may be `async`",
        )),
        (0, None) if returns_nothing => {
            Err(Error::new(end, "a handler takes a `Request`; or it takes nothing and returns a `Router`"))
        }
        (0, None) => Ok("route"),
        (1, None) => Ok("run"),
        (1, Some(_)) => Ok("run_async"),
        (2, _) if returns_nothing => Err(Error::new(
            end,
            "a streaming handler returns `tidegate_sdk::Result<()>`: its errors become responses",
        )),
        (2, None) => Ok("stream"),
        (2, Some(_)) => Ok("stream_async"),
        (n, _) => Err(Error::new(
            signature.inputs.span(),
            format!(
                "a handler takes `Request`, or `Request` and `ResponseWriter` to stream; this one takes {n} arguments"
            ),
        )),
    }
}

/// Refuses what can never be a handler, with a word on what to do instead.
fn check(signature: &Signature) -> Result<(), Error> {
    if let Some(keyword) = &signature.unsafety {
        return Err(Error::new(keyword.span(), "a handler is not `unsafe`"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(signature.generics.span(), "a handler has no generic parameters"));
    }
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        return Err(Error::new(receiver.span(), "a handler is a free function, not a method"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(item: TokenStream) -> String {
        expand(TokenStream::new(), item).to_string()
    }

    /// The message of the one compile error that `item` gives.
    fn refused(item: TokenStream) -> String {
        export(TokenStream::new(), item).expect_err("it should be refused").to_string()
    }

    #[test]
    fn every_shape_is_exported_and_left_as_it_is() {
        let shapes = [
            (quote! { fn f(request: Request) -> &'static str { "hi" } }, "run"),
            (quote! { async fn f(request: Request) -> &'static str { "hi" } }, "run_async"),
            (quote! { fn f(_: Request, mut w: ResponseWriter) -> Result<()> { Ok(()) } }, "stream"),
            (quote! { async fn f(_: Request, w: ResponseWriter) -> Result<()> { Ok(()) } }, "stream_async"),
            (quote! { fn f() -> Router { Router::new() } }, "route"),
            (quote! { pub(crate) fn f(request: Request) {} }, "run"),
        ];
        for (item, adapter) in shapes {
            let out = expanded(item.clone());
            assert!(out.starts_with(&item.to_string()), "{out}");
            assert!(out.contains(&format!(":: __private :: {adapter} (f)")), "{out}");
            assert!(out.contains("fn tidegate_handle"), "{out}");
            assert!(out.contains("__export_component"), "{out}");
            assert!(!out.contains("compile_error"), "{out}");
        }
    }

    #[test]
    fn wrong_shapes_are_refused_with_a_reason() {
        let cases = [
            (quote! { unsafe fn f(_: Request) -> Response {} }, "not `unsafe`"),
            (quote! { fn f<T>(_: Request) -> T {} }, "generic"),
            (quote! { fn f(self) -> Response {} }, "free function"),
            (quote! { fn f() {} }, "returns a `Router`"),
            (quote! { async fn f() -> Router {} }, "plain `fn() -> Router`"),
            (quote! { fn f(a: A, b: B, c: C) -> Response {} }, "takes 3 arguments"),
            (quote! { async fn f(a: A, b: B, c: C) -> Response {} }, "takes 3 arguments"),
            (quote! { fn f(_: Request, _: ResponseWriter) {} }, "Result<()>"),
            (quote! { async fn f(_: Request, _: ResponseWriter) {} }, "Result<()>"),
            (quote! { struct S; }, "goes on a function"),
        ];
        for (item, part) in cases {
            let message = refused(item.clone());
            assert!(message.contains(part), "{item}: {message}");
        }
    }

    #[test]
    fn a_refused_function_is_kept_beside_the_error() {
        let out = expanded(quote! { unsafe fn f(_: Request) -> Response {} });
        assert!(out.starts_with("unsafe fn f") && out.contains("compile_error"), "{out}");
    }

    #[test]
    fn what_serves_connections_is_exported_by_its_own_name() {
        let shapes = [
            (quote! { fn f(stream: TcpStream) {} }, "connection"),
            (quote! { fn f(stream: TcpStream) -> Result<()> { Ok(()) } }, "connection"),
            (quote! { async fn f(stream: TcpStream) -> Result<()> { Ok(()) } }, "connection_async"),
        ];
        for (item, adapter) in shapes {
            let out = beside(item.clone(), export_connection(TokenStream::new(), item.clone())).to_string();
            assert!(out.starts_with(&item.to_string()), "{out}");
            assert!(out.contains(&format!(":: __private :: {adapter} (handle , f)")), "{out}");
            assert!(out.contains("fn tidegate_connection (handle : i32) -> i32"), "{out}");
            // The one error that it may have is for components.
            assert_eq!(out.matches("compile_error").count(), 1, "{out}");
        }
        let cases = [
            (quote! { fn f() {} }, "takes a `tidegate_sdk::net::TcpStream`"),
            (quote! { fn f(a: A, b: B) {} }, "and nothing else"),
            (quote! { fn f<T>(a: T) {} }, "generic"),
            (quote! { struct S; }, "goes on a function"),
        ];
        for (item, part) in cases {
            let message =
                export_connection(TokenStream::new(), item).expect_err("it should be refused").to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(export_connection(quote!(fast), quote! { fn f(_: TcpStream) {} }).is_err());
    }

    #[test]
    fn arguments_are_refused() {
        let error = export(quote!(fast), quote! { fn f(_: Request) -> Response {} }).unwrap_err();
        assert!(error.to_string().contains("no arguments"));
    }
}
