//! The `#[handler]` attribute of `tidegate-sdk`.
//!
//! It reads no more of a function than its shape, leaves the function as it is, and adds the two exports that the host
//! calls. Everything else is a plain function in the SDK, so that a new version of either works with the other.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, Ident, ItemFn, ReturnType, Signature};

/// Exports a function as the module's handler. A module has one.
///
/// Two shapes:
/// - `fn(Request) -> R`, where `R` is a `Response` or anything else that implements `IntoResponse`;
/// - `fn(Request, ResponseWriter) -> Result<(), E>`, which writes its response bit by bit.
///
/// On targets other than wasm the function stays what it was, so that it can be called from tests.
#[proc_macro_attribute]
pub fn handler(attribute: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(attribute.into(), item.into()).into()
}

fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    match export(attribute, item.clone()) {
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
        Error::new(Span::call_site(), "#[handler] goes on a function: `fn(Request) -> Response`")
    })?;
    let signature = &function.sig;
    check(signature)?;
    let adapter = match signature.inputs.len() {
        1 => "run",
        2 => "stream",
        n => {
            return Err(Error::new(
                signature.inputs.span(),
                format!(
                    "a handler takes `Request`, or `Request` and `ResponseWriter` to stream; this one takes {n} arguments"
                ),
            ));
        }
    };
    if signature.inputs.len() == 2 && matches!(signature.output, ReturnType::Default) {
        return Err(Error::new(
            signature.paren_token.span.close(),
            "a streaming handler returns `tidegate_sdk::Result<()>`: its errors become responses",
        ));
    }

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

            #[cfg(target_arch = "wasm32")]
            #[unsafe(no_mangle)]
            extern "C" fn tidegate_handle() -> i32 {
                #call
            }
        };
    })
}

/// Refuses what can never be a handler, with a word on what to do instead.
fn check(signature: &Signature) -> Result<(), Error> {
    if let Some(keyword) = &signature.asyncness {
        return Err(Error::new(
            keyword.span(),
            "`async fn` handlers come with a later version; a plain `fn` may wait too, it holds up no other request",
        ));
    }
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
    fn both_shapes_are_exported_and_left_as_they_are() {
        let plain = expanded(quote! { fn hello(request: Request) -> &'static str { "hi" } });
        assert!(plain.starts_with("fn hello"), "{plain}");
        assert!(plain.contains(":: __private :: run (hello)"), "{plain}");
        assert!(plain.contains("fn tidegate_handle"), "{plain}");

        let stream = expanded(quote! { fn f(_: Request, mut w: ResponseWriter) -> Result<()> { Ok(()) } });
        assert!(stream.contains(":: __private :: stream (f)"), "{stream}");
        assert!(!stream.contains("compile_error"), "{stream}");
    }

    #[test]
    fn wrong_shapes_are_refused_with_a_reason() {
        let cases = [
            (quote! { async fn f(_: Request) -> Response {} }, "later version"),
            (quote! { unsafe fn f(_: Request) -> Response {} }, "not `unsafe`"),
            (quote! { fn f<T>(_: Request) -> T {} }, "generic"),
            (quote! { fn f(self) -> Response {} }, "free function"),
            (quote! { fn f() -> Response {} }, "takes 0 arguments"),
            (quote! { fn f(a: A, b: B, c: C) -> Response {} }, "takes 3 arguments"),
            (quote! { fn f(_: Request, _: ResponseWriter) {} }, "Result<()>"),
            (quote! { struct S; }, "goes on a function"),
        ];
        for (item, part) in cases {
            let message = refused(item.clone());
            assert!(message.contains(part), "{item}: {message}");
        }
    }

    #[test]
    fn a_refused_function_is_kept_beside_the_error() {
        let out = expanded(quote! { async fn f(_: Request) -> Response {} });
        assert!(out.starts_with("async fn f") && out.contains("compile_error"), "{out}");
    }

    #[test]
    fn arguments_are_refused() {
        let error = export(quote!(fast), quote! { fn f(_: Request) -> Response {} }).unwrap_err();
        assert!(error.to_string().contains("no arguments"));
    }
}
