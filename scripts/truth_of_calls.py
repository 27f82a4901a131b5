"""What a row of `llm_calls` must say, by what the server knows of the call. For check-truth."""

import hashlib
import json

# How each API is called in the rows; Bedrock's Invoke speaks as the model's maker does.
DIALECTS = {"anthropic": "anthropic.messages", "chat": "openai.chat", "responses": "openai.responses",
            "gemini": "gemini.generate_content", "ollama": "ollama.chat", "bedrock": "bedrock.converse"}
# What each says at the end of an answer that asks for tools, and of one that does not.
ENDS = {"anthropic": ("tool_use", "end_turn"), "chat": ("tool_calls", "stop"), "responses": ("tool_calls", "completed"),
        "gemini": ("STOP", "STOP"), "ollama": ("stop", "stop"), "bedrock": ("tool_use", "end_turn")}


def wire_api(truth):
    return "anthropic.messages" if "/invoke" in truth["path"] else DIALECTS[truth["dialect"]]


def expected_call(truth, request, over_websocket):
    """The columns of the row of a call; `request` is the body of one of chat completions."""
    expected = {"wire_api": wire_api(truth), "request_model": truth["model"], "stream": truth["sse"] or over_websocket,
                "status_code": truth["status"], "error_type": truth.get("error_type"), "aborted": False, "complete": True}
    if "error_type" in truth:
        # A client need not read on after the error that ends a stream.
        unsure = ("stream", "complete") if truth["sse"] else ("stream",)
        return {**{name: value for name, value in expected.items() if name not in unsure}, "finish_reason": "error"}
    called = bool(truth["tool_calls"])
    expected.update(
        response_model=truth.get("response_model", truth["model"]), finish_reason="tool_call" if called else "stop",
        finish_reason_raw=truth.get("stop_reason") or ENDS[truth["dialect"]][0 if called else 1],
        **expected_tokens(truth, request))
    # A request that only warms up (two messages answer it) says what it would have been told.
    if truth.get("text_sha256") and truth.get("ws_messages") != 2:
        expected["text_sha"] = truth["text_sha256"]
    return expected


def expected_tokens(truth, request):
    """In the meaning of OpenTelemetry: input includes what was cached, output what was thought."""
    usage = truth["usage"]
    if truth["dialect"] == "chat" and truth["sse"] and not (request.get("stream_options") or {}).get("include_usage"):
        return {"input_tokens": None, "output_tokens": None, "usage_source": "none"}

    def tokens(input, output, **others):
        return {"input_tokens": input, "output_tokens": output, "usage_source": "reported", **others}

    if "inputTokens" in usage:
        read, written = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
        return tokens(usage["inputTokens"] + read + written, usage["outputTokens"],
                      cache_read_input_tokens=read, cache_write_input_tokens=written)
    if "promptTokenCount" in usage:
        thought = usage.get("thoughtsTokenCount")
        return tokens(usage["promptTokenCount"], usage["candidatesTokenCount"] + (thought or 0),
                      cache_read_input_tokens=usage.get("cachedContentTokenCount"), reasoning_output_tokens=thought)
    if "eval_count" in usage:
        return tokens(usage["prompt_eval_count"], usage["eval_count"])
    if truth["dialect"] == "responses":
        return tokens(usage["input_tokens"], usage["output_tokens"],
                      cache_read_input_tokens=usage["input_tokens_details"]["cached_tokens"],
                      reasoning_output_tokens=usage["output_tokens_details"]["reasoning_tokens"])
    if truth["dialect"] == "chat":
        return tokens(usage["prompt_tokens"], usage["completion_tokens"],
                      cache_read_input_tokens=usage["prompt_tokens_details"]["cached_tokens"],
                      reasoning_output_tokens=usage["completion_tokens_details"]["reasoning_tokens"])
    read, written = usage.get("cache_read_input_tokens", 0), usage.get("cache_creation_input_tokens", 0)
    return tokens(usage["input_tokens"] + read + written, usage["output_tokens"],
                  cache_read_input_tokens=read, cache_write_input_tokens=written)


def forms_of_result(text):
    """The hashes under which a server may know a result: as text, or in the object that Gemini wants around it."""
    wrapped = [json.dumps({name: text}, ensure_ascii=False, separators=(",", ":")) for name in ("output", "error")]
    return [hashlib.sha256(form.encode()).hexdigest() for form in [text, *wrapped]]
