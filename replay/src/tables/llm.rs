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
        /// The turn, from what a user says up to the final answer, by the `llm_call_id` of its first call; null when the request is not whole.
        turn_id: Option<i64>,
        /// The conversation, by the `llm_call_id` of its first call; a summary in place of the history does not end it.
        conversation_id: Option<i64> [otel = "gen_ai.conversation.id"],
        /// The agent, by the `llm_call_id` of its first call: a process with its own instructions and tools, so that sub-agents and side calls are others.
        agent_id: Option<i64> [otel = "gen_ai.agent.id"],
        /// The id that the agent itself gives to its session, where it sends one.
        session_id: Option<String>,
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
        /// What its tokens cost, in US dollars, at list prices; null where the model is not known, or the usage that the provider reported is not final: that of a stream which broke off on its way.
        cost_usd: Option<f64> [unit = "USD"],
        /// Where the price is from: name, date and hash of the table.
        price_table: Option<String>,
        /// Counts the tries of one request from 1, as far as they were seen: the same body again, after a failure, by the same process; or as the client says (`x-stainless-retry-count`).
        attempt: i64,
        /// Whether `llm_call_messages` has all that the model was given: the request was whole, and the response that it goes on from was seen.
        context_complete: bool,
        /// Text of the answer.
        output_text: Option<String>,
        /// Whether the response ended before its end.
        aborted: bool,
        /// Whether every byte of request and response was there and understood.
        complete: bool,
    }
}

table! {
    /// One part of a message that was said to a model or by it, once for all calls that carry the message.
    pub struct LlmMessage in "llm_messages" {
        /// The capture.
        capture_id: String,
        /// Names the message: 128 bits of a SHA-256 over what it says and over the hash of the message before it. How JSON, whitespace and thoughts are written makes no difference.
        message_hash: String,
        /// The message before it; null for the first one, for instructions and for tools that are offered.
        parent_hash: Option<String>,
        /// Who says it: `system`, `user`, `assistant` or `tool`.
        role: &'static str,
        /// Counts the parts of the message from 0.
        part_idx: i64,
        /// `text`, `reasoning`, `tool_call`, `tool_result`, `tools` (those that are offered), or the API's word: `image`, `document`.
        part_type: String,
        /// The provider's id of the tool call.
        tool_call_id: Option<String> [otel = "gen_ai.tool.call.id"],
        /// Name of the tool that is called.
        tool_name: Option<String> [otel = "gen_ai.tool.name"],
        /// The text, or what the tool gave. Images and the like stand in it by hash, size and type.
        text: Option<String>,
        /// Anything that is no text, as JSON: arguments, tools, images (by hash, size and type).
        payload: Option<String>,
        /// Length of the text or the JSON; of an image and the like, of itself.
        bytes: i64 [unit = "bytes"],
        /// A quarter of the bytes, rounded up; null for what is no text.
        est_tokens: Option<i64> [unit = "tokens"],
    }
}

table! {
    /// A message in the context of a call, or its answer.
    pub struct LlmCallMessage in "llm_call_messages" {
        /// The capture.
        capture_id: String,
        /// The call.
        llm_call_id: i64,
        /// Counts what the model was given from 0: tools, instructions, the conversation; the answer stands behind it.
        position: i64,
        /// The message, in `llm_messages`.
        message_hash: String,
        /// `sent` or `received`, seen from the process.
        direction: &'static str,
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
        /// The LLM call that first carried its result; null where that is not in the capture.
        result_llm_call_id: Option<i64>,
        /// The turn of the LLM call that asked for it.
        turn_id: Option<i64>,
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
        /// The result: text, or the JSON of its parts. Images and the like stand in it by hash, size and type.
        result: Option<String> [otel = "gen_ai.tool.call.result"],
        /// SHA-256 of `result` as it stands here, hexadecimal: of an image counts what it is, not how it was written.
        result_hash: Option<String>,
        /// Whether the agent called the result an error.
        is_error: Option<bool>,
        /// When the model's request was complete; null where that is not in the capture.
        requested_ts: Option<Timestamp>,
        /// When the agent sent the result, first of the requests that are in the capture; null where a lost one was earlier.
        result_ts: Option<Timestamp>,
        /// From `requested_ts` to `result_ts`.
        duration_ns: Option<i64> [unit = "ns"],
        /// Whether the arguments are whole and valid JSON.
        args_complete: bool,
    }
}
