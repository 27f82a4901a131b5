//! The checks of `agentsight replay`: golden rows made and compared, assertions asked, and what came of it written down.

use crate::golden::Golden;
use crate::inputs::Recording;
use crate::replay::{Args, Selection, Stop};
use crate::{assertions, inputs, say, status};
use agentsight_replay::check::{Outcome, report};
use std::io::{self, Write};

/// Blesses or checks. Returns the exit status.
pub fn run(args: &Args) -> Result<u8, Stop> {
    let selection = Selection::new(args)?;
    let chosen = selection.by_name || !args.analyzer.is_empty() || args.from.is_some() || args.to.is_some();
    let folder = args.bless.as_deref().or(args.check.as_deref());
    if folder.is_none() && (chosen || args.policy.is_some()) {
        let message =
            "--assert sees every row of every table: --table, --analyzer, --from, --to and --policy go with --check";
        return Err(Stop::Usage(message.to_owned()));
    }
    if args.speed.0.is_some() {
        return Err(Stop::Usage("checks are as fast as can be: --speed goes with rows".to_owned()));
    }
    let captures = inputs::captures(&args.captures).map_err(Stop::Failed)?;
    let recordings = inputs::recordings(&captures).map_err(Stop::Failed)?;
    let mut outcomes = Vec::new();
    let mut lossy = false;
    let mut golden = None;
    if let Some(folder) = folder {
        let [recording] = &recordings[..] else {
            let message = format!("golden rows are of one recording, and {} are named", recordings.len());
            return Err(Stop::Usage(message));
        };
        selection.window(recording.start).map_err(Stop::Usage)?;
        let opened = Golden::open(folder, args.policy.as_deref(), &selection, recording).map_err(Stop::Failed)?;
        if args.bless.is_some() {
            let (tables, loss) = opened.bless().map_err(Stop::Failed)?;
            say(format_args!("{}: golden rows of {tables} tables", folder.display()));
            lossy |= loss;
        } else {
            let (of_tables, loss) = opened.check().map_err(Stop::Failed)?;
            outcomes.extend(of_tables);
            lossy |= loss;
            golden = Some(opened);
        }
    }
    if !args.assert.is_empty() {
        let (of_assertions, loss) =
            assertions::run(&args.assert, captures.to_vec(), selection.prices.clone()).map_err(Stop::Failed)?;
        outcomes.extend(of_assertions);
        lossy |= loss;
    }
    write_reports(args, &outcomes, &recordings)?;
    match io::stdout().write_all(report::text(&outcomes).as_bytes()) {
        // Whoever reads has enough; the exit status still tells what came of it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    let failed = outcomes.iter().filter(|outcome| outcome.failed()).count();
    if failed == 0 {
        if !outcomes.is_empty() {
            say(format_args!("{} checks passed", outcomes.len()));
        }
        return Ok(if lossy { status::LOSS } else { 0 });
    }
    say(format_args!("{failed} of {} checks failed", outcomes.len()));
    if let Some(golden) = golden.filter(|_| outcomes.iter().any(|outcome| outcome.failed() && outcome.kind == "golden"))
    {
        golden.tell_versions();
        say(format_args!("where the new rows are right, take them with --bless {}", golden.folder.display()));
    }
    Ok(status::FAILED)
}

fn write_reports(args: &Args, outcomes: &[Outcome], recordings: &[Recording]) -> Result<(), Stop> {
    let captures: Vec<_> = recordings.iter().flat_map(|recording| inputs::names(&recording.files)).collect();
    let sarif = || format!("{:#}\n", report::sarif(outcomes, env!("CARGO_PKG_VERSION")));
    let junit = || report::junit(outcomes, &captures.join(" "));
    for (path, text) in [(&args.junit, &junit as &dyn Fn() -> String), (&args.sarif, &sarif)] {
        let Some(path) = path else { continue };
        std::fs::write(path, text()).map_err(|error| Stop::Failed(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}
