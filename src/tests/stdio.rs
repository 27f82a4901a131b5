//! Standard streams on the real kernel: what goes through them, over what, and who is at the other end.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::json;
use support::{agentsight, folder, python, query, record_command};

#[test]
fn standard_streams_name_the_process_at_the_other_end() {
    let Some(folder) = folder() else { return };
    record_command(&folder, &["sh", "-c", "printf 'one two' | tr a-z A-Z | cat >/dev/null"]);
    let sql = "SELECT s.fd, direction, text(data) AS said, e.args[1] AS program, p.args[1] AS peer FROM stdio s
        LEFT JOIN execs e ON s.proc_id = e.proc_id LEFT JOIN execs p ON s.peer_proc_id = p.proc_id
        WHERE e.args[1] = 'tr' ORDER BY seq";
    let expected = [
        // Its writer is the shell's own printf, in a process that executed nothing.
        json!({"fd": 0, "direction": "received", "said": "one two", "program": "tr", "peer": null}),
        json!({"fd": 1, "direction": "sent", "said": "ONE TWO", "program": "tr", "peer": "cat"}),
    ];
    assert_eq!(query(&folder, sql), expected);
}

#[test]
fn standard_streams_are_all_those_of_mcp_or_none() {
    let Some(folder) = folder() else { return };
    let script = r#"printf '{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n' | cat | cat >/dev/null; printf words | cat >/dev/null
        printf '[package]' | cat >/dev/null"#;
    let said = |which: &str| -> Vec<String> {
        let options = ["capture", "-f", "-o", "run.asc", "--stdio", which, "--", "sh", "-c", script];
        assert!(agentsight(&folder, &options).status.success());
        let rows = query(&folder, "SELECT DISTINCT left(text(data), 5) AS said FROM stdio WHERE len > 0 ORDER BY 1");
        rows.into_iter().map(|row| row["said"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(said("all"), ["[pack", "words", "{\"jso"]);
    assert_eq!(said("mcp"), ["{\"jso"]);
    assert_eq!(said("off"), [""; 0]);
}

/// A shell whose standard streams are a connection, and one that answers a request of HTTP on them.
const CALLED_BACK: &str = r#"
import socket, subprocess
listener = socket.create_server(("127.0.0.1", 0))
def serve(script, question):
    client = socket.create_connection(listener.getsockname()); server, _ = listener.accept()
    shell = subprocess.Popen(["sh", "-c", script] if script else ["sh"], stdin=client, stdout=client, stderr=client); client.close()
    server.sendall(question); answer = b"".join(iter(lambda: server.recv(100), b"")); shell.wait(); return answer
assert serve(None, b"echo $((6 * 7))\nexit\n") == b"42\n"
assert serve("head -c 23 >/dev/null; printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello'", b"GET /shell HTTP/1.0\r\n\r\n").endswith(b"hello")"#;

#[test]
fn standard_streams_over_the_network_are_recorded_where_they_are_no_http() {
    let Some(folder) = folder() else { return };
    record_command(&folder, &[&python(), "-c", CALLED_BACK]);
    let sql = "SELECT fd, direction, string_agg(text(data), '' ORDER BY seq) AS said FROM stdio
        WHERE object_type = 'network_socket' GROUP BY 1, 2 ORDER BY 1";
    let expected = [
        json!({"fd": 0, "direction": "received", "said": "echo $((6 * 7))\nexit\n"}),
        json!({"fd": 1, "direction": "sent", "said": "42\n"}),
    ];
    assert_eq!(query(&folder, sql), expected);
    let sql = "SELECT path, status_code, text(response_body) AS body FROM http WHERE method IS NOT NULL";
    let expected = json!({"path": "/shell", "status_code": 200, "body": "hello"});
    assert_eq!(query(&folder, sql), [expected.clone(), expected]);
}
