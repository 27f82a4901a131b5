"""What the table `mcp` must say, by what an MCP server knows of the messages it got and sent. For check-truth."""

import json


def parsed(text):
    return None if text is None else json.loads(text)


def expected_row(truth):
    """A request with its response, or a notification."""
    answer, error = truth.get("result"), truth.get("error")
    params = truth.get("params")
    row = {"transport": truth["transport"], "direction": truth["direction"], "method": truth["method"], "params": params,
           "kind": "request" if "id" in truth else "notification",
           "request_id": str(truth["id"]) if "id" in truth else None, "complete": True}
    if truth["method"] == "tools/call":
        row["tool_name"] = params["name"]
    if truth["method"] == "resources/read":
        row["resource_uri"] = params["uri"]
    if "id" in truth:
        row.update(result=error if error else answer, error_code=error["code"] if error else None,
                   is_error=bool(error or answer.get("isError")))
    return row


def check_mcp(truth, rows, differ, report):
    """Every message once, and no other."""
    differences, free = [], [{**row, "params": parsed(row["params"]), "result": parsed(row["result"])} for row in rows]
    alike = ("transport", "direction", "method", "request_id", "params")
    for number, one in enumerate(truth):
        expected = expected_row(one)
        found = next((row for row in free if all(row[name] == expected[name] for name in alike)), None)
        if found is None:
            differences.append(f"not in the captures: {one['transport']} {one['method']} {one.get('id', '')}")
            continue
        free.remove(found)
        differences += differ(f"mcp_id {found['mcp_id']} (message {number + 1})", found, expected)
    differences += [f"not in the truth: {row['transport']} {row['method']} {row['request_id']}" for row in free]
    if truth or rows:
        report.line(f"mcp: {len(truth)} messages there once, with their answers", differences)
