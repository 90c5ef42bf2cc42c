//! `tidegate dev`: builds a handler crate and serves it on this machine, with a line a request.

use crate::config::{LogTarget, Settings};

use super::args::DevArgs;
use super::{Failure, build, serve};

pub(super) fn run(args: &DevArgs) -> Result<(), Failure> {
    // A wrong flag should not cost a build.
    let flags = &args.flags;
    flags.check()?;
    let built = build::build(&args.folder)?;
    serve::start(settings(args, &built)?)
}

fn settings(args: &DevArgs, built: &build::Built) -> Result<Settings, Failure> {
    let mut settings = serve::of_module(built.artifact.clone(), &built.package)?;
    settings.server.dev = true;
    settings.server.access_log = Some(LogTarget::Stdout);
    args.flags.apply(&mut settings)?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::{Cli, Verb};
    use super::*;
    use crate::config::{ListenAddr, LogFormat, ServerSettings};

    fn settings_of(line: &str) -> Settings {
        let Verb::Dev(args) = Cli::try_parse_from(line.split(' ')).unwrap().verb else { panic!("{line}") };
        let built = build::Built { package: "hello".into(), artifact: "target/hello.wasm".into() };
        settings(&args, &built).unwrap()
    }

    #[test]
    fn it_serves_this_machine_and_logs_each_request() {
        let settings = settings_of("tidegate dev guests/hello");
        let expected =
            ServerSettings { dev: true, access_log: Some(LogTarget::Stdout), ..ServerSettings::default() };
        assert_eq!(settings.server, expected);
        assert_eq!(settings.server.listen, [ListenAddr::parse("127.0.0.1:8080").unwrap()]);
        assert_eq!(settings.server.log_format, LogFormat::Text);
        assert_eq!((settings.apps.len(), settings.apps[0].name.as_str()), (1, "hello"));
    }

    #[test]
    fn flags_override_what_it_chooses() {
        let settings = settings_of("tidegate dev guests/hello --listen :0 --access-log a.log --name other");
        assert_eq!(settings.server.listen, [ListenAddr::parse(":0").unwrap()]);
        assert_eq!(settings.server.access_log, Some(LogTarget::File("a.log".into())));
        assert_eq!(settings.apps[0].name, "other");
    }
}
