//! Which agent was recorded, and of which version: by what it calls itself when it calls a model, else by the command.
//!
//! The first `User-Agent` of a call of a model that is no library's says name and version (`claude-cli/2.1.148 (external, cli)`).
//! Where none does, the recorded command is the agent: its program, or the script or package that an interpreter was given.

/// What libraries call themselves, before the first `/` and in small letters; agents that use them may not say more.
const LIBRARIES: [&str; 26] = [
    "anthropic",
    "openai",
    "asyncanthropic",
    "asyncopenai",
    "ai-sdk",
    "ai",
    "mozilla",
    "python-requests",
    "python-httpx",
    "python",
    "python-urllib",
    "aiohttp",
    "axios",
    "node",
    "node-fetch",
    "undici",
    "bun",
    "deno",
    "curl",
    "wget",
    "go-http-client",
    "okhttp",
    "java",
    "reqwest",
    "google-genai-sdk",
    "boto3",
];

/// Programs that run what stands behind them.
const INTERPRETERS: [&str; 15] = [
    "node", "nodejs", "bun", "bunx", "deno", "npx", "python", "python3", "uv", "uvx", "env", "sh", "bash", "sudo",
    "timeout",
];

/// Name and version, by a `User-Agent`.
pub(crate) fn of_user_agent(text: &str) -> Option<(String, String)> {
    let (name, rest) = text.split_once('/')?;
    let version: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || ".-+_".contains(*c)).collect();
    let small = name.to_ascii_lowercase();
    let plain =
        !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@ ".contains(c));
    let named = plain && !LIBRARIES.contains(&small.trim()) && version.starts_with(|c: char| c.is_ascii_digit());
    named.then(|| (name.trim().to_owned(), version))
}

/// Name, by the recorded command.
pub(crate) fn of_command(command: &[String]) -> Option<String> {
    let names = command.iter().filter(|argument| !argument.starts_with('-') && !argument.contains('='));
    let is_word =
        |name: &&str| !matches!(*name, "run" | "exec" | "x") && !name.bytes().all(|byte| byte.is_ascii_digit());
    let base = |argument: &'_ String| argument.rsplit('/').next().unwrap_or_default().to_owned();
    let mut bases = names.map(base).filter(|name| is_word(&name.as_str()));
    bases.find(|name| !INTERPRETERS.contains(&name.as_str()) && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_call_themselves_by_name_and_version() {
        for (text, expected) in [
            ("claude-cli/2.1.148 (external, cli)", Some(("claude-cli", "2.1.148"))),
            ("codex_cli_rs/0.130.0 (Ubuntu 24.4.0; x86_64) xterm", Some(("codex_cli_rs", "0.130.0"))),
            ("opencode/1.14.39 ai-sdk/provider-utils/4.0.1", Some(("opencode", "1.14.39"))),
            ("GeminiCLI/0.9.0/gemini-2.5-pro (linux; x64)", Some(("GeminiCLI", "0.9.0"))),
            ("Anthropic/JS 0.94.0", None),
            ("OpenAI/Python 2.1.0", None),
            ("ai-sdk/openai/2.0.1", None),
            ("curl/8.5.0", None),
            ("node", None),
        ] {
            let expected = expected.map(|(name, version)| (name.to_owned(), version.to_owned()));
            assert_eq!(of_user_agent(text), expected, "{text}");
        }
    }

    #[test]
    fn a_command_is_named_by_what_it_runs() {
        for (command, expected) in [
            ("/usr/local/bin/claude -p hi", Some("claude")),
            ("node --no-warnings /opt/agent/cli.js", Some("cli.js")),
            ("env HOME=/tmp timeout 60 python3 agent.py", Some("agent.py")),
            ("npx -y @openai/codex exec hi", Some("codex")),
            ("uv run bot.py", Some("bot.py")),
            ("node", None),
        ] {
            let command: Vec<_> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(of_command(&command).as_deref(), expected, "{command:?}");
        }
    }
}
