//! Which commands destroy something: one function a program, or a few that do the same.

use super::places::{Place, is_disk, place};
use super::remote;
use super::simple::{Simple, reads_program};
use super::sql;
use crate::shell;

/// What a command would do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Harm {
    /// The rule, without what all rules of commands begin with.
    pub rule: &'static str,
    pub severity: &'static str,
    /// What it does, as the end of a sentence.
    pub does: String,
    /// The command.
    pub command: String,
}

/// What these programs, in the order in which they would run, do; each rule at most once, with the worst of it.
pub(super) fn judge(programs: &[Simple]) -> Vec<Harm> {
    let mut harms: Vec<Harm> = Vec::new();
    for (at, simple) in programs.iter().enumerate() {
        let before = programs.get(..at).unwrap_or_default();
        let behind = programs.get(at + 1..).unwrap_or_default();
        let found = of_program(simple).or_else(|| downloads(simple, before, behind)).or_else(|| bomb(simple, behind));
        for (rule, severity, does) in found.into_iter().chain(writes(simple)).chain(remote::shell(simple, before)) {
            let harm = Harm { rule, severity, does, command: simple.line() };
            match harms.iter_mut().find(|other| other.rule == rule) {
                Some(other) if rank(other.severity) < rank(severity) => *other = harm,
                Some(_) => {}
                None => harms.push(harm),
            }
        }
    }
    harms
}

fn rank(severity: &str) -> usize {
    ["low", "medium", "high"].iter().position(|name| *name == severity).unwrap_or_default()
}

pub(super) type Found = (&'static str, &'static str, String);

pub(super) fn found(rule: &'static str, severity: &'static str, does: impl Into<String>) -> Option<Found> {
    Some((rule, severity, does.into()))
}

fn of_program(simple: &Simple) -> Option<Found> {
    match simple.name() {
        "rm" | "grm" => removes(simple),
        "find" => find(simple),
        "dd" => {
            let out = simple.texts().find_map(|text| text.strip_prefix("of="))?;
            is_disk(out).then(|| ("write-to-device", "high", format!("writes over {out}")))
        }
        "tee" | "cp" => {
            let disk = simple.operands().last().filter(|word| is_disk(&word.text))?;
            found("write-to-device", "high", format!("writes over {}", disk.text))
        }
        "shred" | "srm" | "wipe" if simple.operands().next().is_some() => {
            found("shred", "medium", "overwrites files so that they cannot be had back")
        }
        "wipefs" if simple.has_letter("a") || simple.has(&["--all"]) => formats(simple),
        name if name == "mkfs" || name.starts_with("mkfs.") || name == "mkswap" => formats(simple),
        "git" => git(simple),
        "psql" | "mysql" | "mariadb" | "sqlite3" | "sqlite" | "duckdb" | "clickhouse-client" | "sqlcmd"
        | "cockroach" => {
            let texts = simple.texts().chain(simple.input.as_deref());
            texts
                .filter_map(sql::harm)
                .map(|(severity, does)| ("sql-drop", severity, does))
                .max_by_key(|(_, severity, _)| rank(severity))
        }
        "kubectl" | "oc" | "helm" => kubernetes(simple),
        "terraform" | "tofu" | "terragrunt" | "pulumi" | "cdk" => infrastructure(simple),
        "docker" | "podman" | "docker-compose" => docker(simple),
        "chmod" | "chown" => permissions(simple),
        "shutdown" | "reboot" | "halt" | "poweroff" if !simple.has(&["-c", "--help"]) => turns_off(),
        "init" | "telinit" if simple.has(&["0", "6"]) => turns_off(),
        "systemctl" if simple.has(&["poweroff", "reboot", "halt", "kexec", "rescue", "emergency"]) => turns_off(),
        "history" if simple.has_letter("c") => found("wipe-traces", "medium", "clears the history of the shell"),
        "unset" if simple.has(&["HISTFILE"]) => {
            found("wipe-traces", "medium", "keeps the shell from writing its history")
        }
        "journalctl" if simple.texts().any(|text| text.starts_with("--vacuum")) => {
            found("wipe-traces", "medium", "deletes logs of the system")
        }
        "truncate" => truncates(simple),
        "unlink" => simple
            .operands()
            .find_map(|word| trace(&word.text))
            .and_then(|what| found("wipe-traces", "medium", format!("deletes {what}"))),
        _ => None,
    }
}

fn removes(simple: &Simple) -> Option<Found> {
    let recursive = simple.has_letter("rR") || simple.has(&["--recursive"]);
    let traces = simple.operands().find_map(|word| trace(&word.text));
    if let Some(what) = traces {
        return found("wipe-traces", "medium", format!("deletes {what}"));
    }
    if !recursive {
        return None;
    }
    if simple.has(&["--no-preserve-root"]) {
        return found("recursive-delete", "high", "deletes the root folder, though it is protected");
    }
    let worst = simple.operands().filter_map(|word| place(&word.text, simple.literal)).max();
    match worst {
        Some(place) => found("recursive-delete", place.severity(), format!("deletes {}", place.name())),
        None if simple.listed && simple.operands().all(|word| word.text == "--") => {
            found("recursive-delete", "low", "deletes folders that another command lists")
        }
        None => None,
    }
}

/// `find` that deletes, below one of the places.
fn find(simple: &Simple) -> Option<Found> {
    let texts: Vec<&str> = simple.texts().collect();
    let removes = texts.windows(2).any(|pair| pair[0].starts_with("-exec") && shell::base_name(pair[1]) == "rm");
    if !(removes || texts.contains(&"-delete")) {
        return None;
    }
    let roots = texts.iter().take_while(|text| !text.starts_with(['-', '(', '!']));
    let worst = roots.filter_map(|root| place(root, simple.literal)).max().filter(|place| *place != Place::Here)?;
    let tests = [
        "-name",
        "-iname",
        "-path",
        "-ipath",
        "-wholename",
        "-regex",
        "-iregex",
        "-mtime",
        "-mmin",
        "-atime",
        "-size",
        "-empty",
        "-user",
        "-newer",
    ];
    let some = texts.iter().any(|text| tests.contains(text));
    let (severity, what) = if some { ("medium", "some of ") } else { (worst.severity(), "") };
    found("recursive-delete", severity, format!("deletes {what}{}", worst.name()))
}

fn formats(simple: &Simple) -> Option<Found> {
    let device = simple.operands().find(|word| word.text.starts_with("/dev/"))?;
    found("format", "high", format!("makes a new file system on {}", device.text))
}

fn git(simple: &Simple) -> Option<Found> {
    // Options of git itself stand before the verb; two of them take a value.
    let mut words = simple.texts();
    let verb = loop {
        match words.next()? {
            "-C" | "-c" | "--git-dir" | "--work-tree" | "--namespace" => drop(words.next()),
            option if option.starts_with('-') => {}
            verb => break verb,
        }
    };
    let rest: Vec<&str> = words.collect();
    let has = |words: &[&str]| rest.iter().any(|text| words.contains(text));
    let letters = |letters: &str| {
        let mut short = rest.iter().filter(|text| text.starts_with('-') && !text.starts_with("--"));
        short.any(|text| text.contains(|c| letters.contains(c)))
    };
    match verb {
        "push" if letters("n") || has(&["--dry-run"]) => None,
        "push" if has(&["--force", "--mirror"]) || letters("f") || rest.iter().any(|text| text.starts_with('+')) => {
            found("git-force-push", "high", "overwrites the history of a remote repository")
        }
        "reset" if has(&["--hard"]) => found("git-discard", "medium", "discards changes that were not committed"),
        "clean" if letters("n") || has(&["--dry-run"]) => None,
        "clean" if (letters("f") || has(&["--force"])) && letters("dxX") => {
            found("git-discard", "medium", "deletes files that git does not have")
        }
        "checkout" | "restore" if has(&[".", ":/", "*"]) && !has(&["--staged", "-S"]) => {
            found("git-discard", "medium", "discards changes that were not committed")
        }
        "stash" if has(&["clear", "drop"]) => found("git-discard", "medium", "deletes changes that were put aside"),
        "branch" if letters("D") => found("git-discard", "low", "deletes a branch, whether it was merged or not"),
        "filter-branch" | "filter-repo" => found("git-rewrite", "medium", "writes the history of a repository anew"),
        "reflog" if has(&["expire", "delete"]) => {
            found("git-rewrite", "medium", "deletes what could bring commits back")
        }
        _ => None,
    }
}

fn kubernetes(simple: &Simple) -> Option<Found> {
    let helm = simple.name() == "helm";
    let verbs: &[&str] = if helm { &["uninstall", "delete", "del"] } else { &["delete"] };
    let operands: Vec<&str> = simple.operands().map(|word| word.text.as_str()).collect();
    let at = operands.iter().take(3).position(|text| verbs.contains(text))?;
    if simple.texts().any(|text| text.starts_with("--dry-run") && text != "--dry-run=none") {
        return None;
    }
    let wide = ["ns", "namespace", "namespaces", "node", "nodes", "pv", "pvc", "crd", "all"];
    let all = simple.has(&["--all", "-A", "--all-namespaces"]);
    let severity = if all || operands.get(at + 1).is_some_and(|kind| wide.contains(kind)) { "high" } else { "medium" };
    found("kubernetes-delete", severity, "deletes what runs in a cluster")
}

fn infrastructure(simple: &Simple) -> Option<Found> {
    let verbs: Vec<&str> = simple.operands().map(|word| word.text.as_str()).take(3).collect();
    let applies = verbs.contains(&"apply") && simple.has(&["-destroy", "--destroy"]);
    let plans = verbs.first() == Some(&"plan") || simple.has(&["-help", "--help", "--preview-only"]);
    if plans || !(applies || verbs.contains(&"destroy")) {
        return None;
    }
    found("infrastructure-destroy", "high", "destroys infrastructure")
}

fn docker(simple: &Simple) -> Option<Found> {
    let words: Vec<&str> = simple.operands().map(|word| word.text.as_str()).collect();
    let pair = |a: &str, b: &str| words.windows(2).any(|pair| pair == [a, b]);
    let compose = simple.name() == "docker-compose" || words.contains(&"compose");
    let what = match () {
        () if pair("system", "prune") => "deletes containers, networks and images that are not in use",
        () if pair("volume", "prune") || pair("volume", "rm") => "deletes volumes, and the data in them",
        () if compose && words.contains(&"down") && (simple.has_letter("v") || simple.has(&["--volumes"])) => {
            "deletes volumes, and the data in them"
        }
        () => return None,
    };
    found("docker-prune", "medium", what)
}

fn permissions(simple: &Simple) -> Option<Found> {
    let recursive = simple.has_letter("R") || simple.has(&["--recursive"]);
    if !recursive {
        return None;
    }
    let mut operands = simple.operands();
    let mode = operands.next()?.text.as_str();
    let worst =
        operands.filter_map(|word| place(&word.text, simple.literal)).max().filter(|place| *place >= Place::Home);
    let open = ["777", "0777", "a+rwx", "ugo+rwx", "+rwx", "a=rwx", "o+w", "a+w", "666"].contains(&mode);
    match (simple.name(), worst) {
        ("chmod", _) if open => {
            let severity = worst.map_or("medium", Place::severity);
            found("open-permissions", severity, "lets everybody write to a whole folder")
        }
        (_, Some(place)) => found("open-permissions", "medium", format!("changes who may do what in {}", place.name())),
        _ => None,
    }
}

fn turns_off() -> Option<Found> {
    found("shutdown", "medium", "turns the machine off, or starts it anew")
}

fn truncates(simple: &Simple) -> Option<Found> {
    let texts: Vec<&str> = simple.texts().collect();
    let size = texts
        .iter()
        .find_map(|text| text.strip_prefix("--size=").or(text.strip_prefix("-s").filter(|size| !size.is_empty())));
    let size = size.or_else(|| texts.windows(2).find(|pair| matches!(pair[0], "-s" | "--size")).map(|pair| pair[1]));
    if size != Some("0") {
        return None;
    }
    match texts.iter().find_map(|text| trace(text)) {
        Some(what) => found("wipe-traces", "medium", format!("empties {what}")),
        None => found("truncate", "low", "empties a file"),
    }
}

/// Files that tell what was done.
fn trace(path: &str) -> Option<&'static str> {
    let name = shell::base_name(path.trim_end_matches(['/', '*']));
    if matches!(name, ".bash_history" | ".zsh_history" | ".histfile" | ".sh_history" | "fish_history") {
        return Some("the history of a shell");
    }
    let log = path.starts_with("/var/log") && (path.len() == 8 || path.get(8..9) == Some("/"));
    let system = [
        "",
        "syslog",
        "messages",
        "auth.log",
        "secure",
        "wtmp",
        "btmp",
        "lastlog",
        "kern.log",
        "journal",
        "audit",
        "audit.log",
        "log",
    ];
    (log && system.contains(&name)).then_some("logs of the system")
}

/// What a shell would overwrite for it.
fn writes(simple: &Simple) -> Option<Found> {
    let disk = simple.written.iter().find(|path| is_disk(path));
    if let Some(disk) = disk {
        return found("write-to-device", "high", format!("writes over {disk}"));
    }
    let what = simple.written.iter().find_map(|path| trace(path))?;
    found("wipe-traces", "medium", format!("overwrites {what}"))
}

/// An interpreter that is given what was downloaded a moment ago.
fn downloads(simple: &Simple, before: &[Simple], behind: &[Simple]) -> Option<Found> {
    let fetches = |simple: &Simple| matches!(simple.name(), "curl" | "wget" | "fetch" | "aria2c");
    let interprets = |name: &str| {
        shell::is_shell(name)
            || matches!(
                name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.'),
                "python" | "perl" | "ruby" | "node" | "php" | "deno" | "bun"
            )
    };
    let name = simple.name();
    // `bash <(curl …)`, `source <(curl …)`
    let reads_file_of = simple.words.last().is_some_and(|word| word.bare() == "<")
        && (interprets(name) || matches!(name, "source" | "."));
    let piped = || {
        // Back to the start of the pipeline.
        let mut upstream = before.iter().rev();
        let mut of_pipe = simple.piped;
        std::iter::from_fn(move || {
            let one = upstream.next().filter(|_| of_pipe)?;
            of_pipe = one.piped;
            Some(one)
        })
    };
    let through_pipe = interprets(name) && reads_program(simple) && simple.input.is_none() && piped().any(fetches);
    let substituted = |text: &str| {
        let inside = text.trim_start().strip_prefix("$(").or(text.trim_start().strip_prefix('`'));
        inside.is_some_and(|inside| {
            shell::parse(inside)
                .first()
                .and_then(|command| command.words.first())
                .is_some_and(|word| matches!(shell::base_name(&word.text), "curl" | "wget"))
        })
    };
    let as_argument = (shell::is_shell(name) || name == "eval") && simple.texts().any(substituted);
    (through_pipe || as_argument || reads_file_of && behind.first().is_some_and(fetches))
        .then(|| ("remote-script", "medium", "runs what it has just downloaded".to_owned()))
}

/// A function that starts itself twice, `:(){ :|:& };:`.
fn bomb(simple: &Simple, behind: &[Simple]) -> Option<Found> {
    let [itself] = &simple.words[..] else { return None };
    let [body, again, ..] = behind else { return None };
    let calls = |other: &Simple| other.words.first().is_some_and(|word| word.text == itself.text);
    (calls(body) && calls(again) && again.piped && !body.piped)
        .then(|| ("fork-bomb", "high", "starts processes without end".to_owned()))
}
