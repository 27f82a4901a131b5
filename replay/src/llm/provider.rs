//! Who answers: the name that OpenTelemetry's conventions for generative AI give to a provider (`gen_ai.provider.name`), where they
//! have one.

/// By how a host ends.
const HOSTS: [(&str, &str); 25] = [
    ("api.openai.com", "openai"),
    ("chatgpt.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    (".openai.azure.com", "azure.ai.openai"),
    (".cognitiveservices.azure.com", "azure.ai.openai"),
    (".services.ai.azure.com", "azure.ai.inference"),
    (".inference.ai.azure.com", "azure.ai.inference"),
    (".models.ai.azure.com", "azure.ai.inference"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    (".googleapis.com", "gcp.gen_ai"),
    (".ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("api.mistral.ai", "mistral_ai"),
    ("codestral.mistral.ai", "mistral_ai"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.x.ai", "x_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    // These have no name there.
    ("openrouter.ai", "openrouter"),
    ("githubcopilot.com", "github_copilot"),
    ("copilot-proxy.githubusercontent.com", "github_copilot"),
    ("ollama.com", "ollama"),
    (":11434", "ollama"),
];

/// By host, or by a path that only one provider has; `None` if neither tells.
fn known(host: &str, path: &str) -> Option<&'static str> {
    let name = crate::http_rows::without_port(host);
    let of_aws = name.starts_with("bedrock") && name.contains(".amazonaws.com");
    let of_path = || {
        let vertex = path.contains("/projects/") && path.contains("/locations/");
        [(vertex, "gcp.vertex_ai"), (path.contains("/openai/deployments/"), "azure.ai.openai")]
            .iter()
            .find_map(|(matches, provider)| matches.then_some(*provider))
    };
    // What Azure has of OpenAI's is so even where other models are.
    let of_azure = name.ends_with(".services.ai.azure.com") && path.starts_with("/openai/");
    match (of_aws, of_azure) {
        (true, _) => Some("aws.bedrock"),
        (_, true) => Some("azure.ai.openai"),
        _ => HOSTS
            .iter()
            .find(|(suffix, _)| name.ends_with(suffix) || host.ends_with(suffix))
            .map(|(_, provider)| *provider)
            .or_else(of_path),
    }
}

/// The provider; where it is not known, whoever made the API, or else the host.
pub(super) fn of(host: &str, path: &str, maker: Option<&str>) -> String {
    known(host, path).or(maker).unwrap_or_else(|| crate::http_rows::without_port(host)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_paths_tell() {
        for (host, path, maker, expected) in [
            ("api.openai.com", "/v1/responses", None, "openai"),
            ("example.com:8080", "/v1/chat/completions", None, "example.com"),
            ("localhost:11434", "/v1/chat/completions", None, "ollama"),
            ("example.com", "/v1/messages", Some("anthropic"), "anthropic"),
            ("api.individual.githubcopilot.com", "/v1/messages", Some("anthropic"), "github_copilot"),
            ("me.services.ai.azure.com", "/openai/v1/chat/completions", None, "azure.ai.openai"),
            ("me.services.ai.azure.com", "/models/chat/completions", None, "azure.ai.inference"),
            ("gateway.internal", "/openai/deployments/d/chat/completions", None, "azure.ai.openai"),
            ("us-east5-aiplatform.googleapis.com", "/v1/x", Some("anthropic"), "gcp.vertex_ai"),
            ("bedrock-runtime.eu-west-1.amazonaws.com", "/model/m/converse", None, "aws.bedrock"),
        ] {
            assert_eq!(of(host, path, maker), expected, "{host}{path}");
        }
    }
}
