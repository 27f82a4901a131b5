//! What was said to models, and what they wanted done.

use crate::table;
use crate::table::Timestamp;

table! {
    /// One request to a large language model, with its response.
    pub struct LlmCall in "llm_calls" {
        /// The capture.
        capture_id: String,
        /// Names the call in its capture.
        llm_call_id: i64,
        /// The exchange that carried it.
        http_id: i64,
        /// The process.
        proc_id: i64,
        /// What is spoken (by Bedrock's Invoke: the API of the model's maker): `anthropic.messages`, `openai.chat`, `openai.responses`, `gemini.generate_content`, `bedrock.converse`, `ollama.chat`, `ollama.generate`.
        wire_api: &'static str,
        /// Who answered, by OpenTelemetry's name where there is one (`anthropic`, `openai`, `aws.bedrock`, `gcp.gemini`, `gcp.vertex_ai`, `azure.ai.openai`, `mistral_ai`, `deepseek` and so on), else `openrouter`, `github_copilot`, `ollama`, or the server's name.
        provider_name: String [otel = "gen_ai.provider.name"],
        /// `chat`, `generate_content` (Gemini) or `text_completion` (a prompt without roles).
        operation_name: &'static str [otel = "gen_ai.operation.name"],
        /// Model that was asked for.
        request_model: Option<String> [otel = "gen_ai.request.model"],
        /// Model that answered.
        response_model: Option<String> [otel = "gen_ai.response.model"],
        /// The provider's id of the response.
        response_id: Option<String> [otel = "gen_ai.response.id"],
        /// The provider's id of the request, from a response header.
        provider_request_id: Option<String>,
        /// The provider's id of the response that this call goes on from.
        previous_response_id: Option<String>,
        /// Whether the response was streamed.
        stream: bool,
        /// First byte of the request.
        start_ts: Option<Timestamp>,
        /// First piece of generated content.
        first_chunk_ts: Option<Timestamp>,
        /// Last byte of the response.
        end_ts: Option<Timestamp>,
        /// From `start_ts` to `end_ts`.
        duration_ns: Option<i64> [unit = "ns", otel = "gen_ai.client.operation.duration"],
        /// From `start_ts` to `first_chunk_ts`: time to the first chunk.
        ttfc_ns: Option<i64> [unit = "ns", otel = "gen_ai.response.time_to_first_chunk"],
        /// HTTP status.
        status_code: Option<i64> [otel = "http.response.status_code"],
        /// The provider's type of error; the HTTP status if it gives none, or `error`.
        error_type: Option<String> [otel = "error.type"],
        /// Why the model stopped, in one vocabulary: `stop`, `tool_call`, `length`, `content_filter`, `error`.
        finish_reason: Option<&'static str> [otel = "gen_ai.response.finish_reasons"],
        /// Why the model stopped, in the provider's words.
        finish_reason_raw: Option<String>,
        /// Tokens of the prompt, cached ones included.
        input_tokens: Option<i64> [unit = "tokens", otel = "gen_ai.usage.input_tokens"],
        /// Tokens of the answer, those spent on reasoning included.
        output_tokens: Option<i64> [unit = "tokens", otel = "gen_ai.usage.output_tokens"],
        /// Tokens of the prompt that came from the provider's cache.
        cache_read_input_tokens: Option<i64> [unit = "tokens", otel = "gen_ai.usage.cache_read.input_tokens"],
        /// Tokens of the prompt that were written to the provider's cache.
        cache_write_input_tokens: Option<i64> [unit = "tokens", otel = "gen_ai.usage.cache_creation.input_tokens"],
        /// Tokens of the answer spent on reasoning.
        reasoning_output_tokens: Option<i64> [unit = "tokens", otel = "gen_ai.usage.reasoning.output_tokens"],
        /// `reported` by the provider, or `none`.
        usage_source: &'static str,
        /// What the provider itself said of usage, as JSON.
        usage_raw: Option<String>,
        /// Text of the answer.
        output_text: Option<String>,
        /// Whether the response ended before its end.
        aborted: bool,
        /// Whether every byte of request and response was there and understood.
        complete: bool,
    }
}

table! {
    /// One tool call: the model's request, paired with the result that the agent sent back.
    pub struct ToolCall in "tool_calls" {
        /// The capture.
        capture_id: String,
        /// Names the tool call in its capture.
        tool_call_key: i64,
        /// The provider's id of the call.
        tool_call_id: Option<String> [otel = "gen_ai.tool.call.id"],
        /// The LLM call whose answer asked for it.
        llm_call_id: Option<i64>,
        /// The LLM call that first carried its result.
        result_llm_call_id: Option<i64>,
        /// Name of the tool.
        tool_name: Option<String> [otel = "gen_ai.tool.name"],
        /// `function` (the agent runs it) or `server` (the provider does).
        tool_type: &'static str [otel = "gen_ai.tool.type"],
        /// The MCP server that the call went to, as it names itself; of one that is not known, as the agent's name for the tool says.
        mcp_server: Option<String>,
        /// Arguments as JSON, as the model wrote them.
        arguments: Option<String> [otel = "gen_ai.tool.call.arguments"],
        /// SHA-256 of the arguments, hexadecimal.
        args_hash: Option<String>,
        /// The result: text, or the JSON of its parts.
        result: Option<String> [otel = "gen_ai.tool.call.result"],
        /// SHA-256 of the result, hexadecimal.
        result_hash: Option<String>,
        /// Whether the agent called the result an error.
        is_error: Option<bool>,
        /// When the model's request was complete.
        requested_ts: Option<Timestamp>,
        /// When the agent sent the result.
        result_ts: Option<Timestamp>,
        /// From `requested_ts` to `result_ts`.
        duration_ns: Option<i64> [unit = "ns"],
        /// Whether the arguments are whole and valid JSON.
        args_complete: bool,
    }
}
