"""Keys and tokens that a maker gave a form of their own, each with where the form is described.

Expressions are RE2's. A group holds the secret where only a part of what is matched is one.
"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of secret: name of the finding, expression, and the source of its form."""

    name: str
    expression: str
    source: str


_EQUALS = r"""["'\]]{0,2}\s{0,4}(?::=|=>|=|:)\s{0,4}["']?"""

KINDS = (
    Kind("aws_access_key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b", "AWS IAM User Guide, Unique identifiers"),
    Kind(
        "aws_secret_key",
        rf"(?i:secret_?access_?key|aws_?secret(?:_?key)?){_EQUALS}([A-Za-z0-9/+]{{40}})(?:[^A-Za-z0-9/+=]|\z)",
        "AWS IAM User Guide, Managing access keys",
    ),
    Kind("gcp_api_key", r"\bAIza[0-9A-Za-z_-]{35}", "Google Cloud, Manage API keys"),
    Kind("gcp_oauth_secret", r"\bGOCSPX-[A-Za-z0-9_-]{28}", "Google Identity, OAuth 2.0 client credentials"),
    Kind("gcp_access_token", r"\bya29\.[A-Za-z0-9_-]{20,1000}", "Google Cloud, Token types"),
    Kind("azure_storage_key", r"\bAccountKey=([A-Za-z0-9+/]{86}==)", "Azure Storage, Connection strings"),
    Kind("azure_shared_key", r"\bSharedAccessKey=([A-Za-z0-9+/]{43}=)", "Azure Service Bus, Connection strings"),
    Kind("azure_sas", r"[?&]sig=([A-Za-z0-9%+/]{40,70}(?:%3[Dd]|=))", "Azure Storage, Service SAS"),
    Kind("azure_client_secret", r"\b[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}", "Microsoft Purview, Azure AD client secret"),
    Kind("azure_devops_token", r"\b[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}\b", "Azure DevOps, Personal access tokens"),
    Kind("github_token", r"\bgh[pousr]_[A-Za-z0-9]{36,255}", "GitHub Docs, GitHub's token formats"),
    Kind("github_token", r"\bgithub_pat_[A-Za-z0-9_]{36,255}", "GitHub Docs, GitHub's token formats"),
    Kind("gitlab_token", r"\bgl(?:pat|dt|rt|rtr|cbt|ptt|ft|imt|agent|oas|soat|ffct|wt)-[A-Za-z0-9_.=-]{20,300}", "GitLab Docs, Token prefixes"),
    Kind("slack_token", r"\bxox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,250}", "Slack API, Token types"),
    Kind("slack_token", r"\bxapp-[0-9]-[A-Z0-9]{5,20}-[0-9]{8,20}-[a-z0-9]{20,80}", "Slack API, Token types"),
    Kind("slack_webhook", r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_-]{20,120})", "Slack API, Incoming webhooks"),
    Kind("stripe_key", r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{10,250}", "Stripe Docs, API keys"),
    Kind("stripe_webhook_secret", r"\bwhsec_[A-Za-z0-9+/=]{32,64}", "Stripe Docs, Webhook signatures"),
    Kind("anthropic_key", r"\bsk-ant-[a-z0-9]{2,10}-[A-Za-z0-9_-]{20,250}", "Anthropic, Admin API"),
    Kind("openrouter_key", r"\bsk-or-v1-[a-f0-9]{64}", "OpenRouter, API keys"),
    Kind("openai_key", r"\bsk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{20,250}", "OpenAI, API keys"),
    Kind("openai_key", r"\bsk-[A-Za-z0-9]{32,64}\b", "OpenAI, API keys (older form)"),
    Kind("huggingface_token", r"\b(?:hf|api_org)_[A-Za-z0-9]{30,60}\b", "Hugging Face, User access tokens"),
    Kind("groq_key", r"\bgsk_[A-Za-z0-9]{40,64}", "Groq, API keys"),
    Kind("xai_key", r"\bxai-[A-Za-z0-9]{70,100}", "xAI, API keys"),
    Kind("replicate_token", r"\br8_[A-Za-z0-9]{37,40}\b", "Replicate, API tokens"),
    Kind("perplexity_key", r"\bpplx-[A-Za-z0-9]{40,64}", "Perplexity, API keys"),
    Kind("npm_token", r"\bnpm_[A-Za-z0-9]{36}\b", "npm Docs, About access tokens"),
    Kind("pypi_token", r"\bpypi-AgE[A-Za-z0-9_-]{40,400}", "PyPI, API tokens (pypitoken)"),
    Kind("rubygems_key", r"\brubygems_[a-f0-9]{48}\b", "RubyGems Guides, API key scopes"),
    Kind("docker_token", r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{27,60}", "Docker Docs, Access tokens"),
    Kind("twilio_key", r"\bSK[0-9a-f]{32}\b", "Twilio Docs, API keys"),
    Kind("sendgrid_key", r"\bSG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}", "Twilio SendGrid, API keys"),
    Kind("mailgun_key", r"\bkey-[0-9a-f]{32}\b", "Mailgun Docs, API keys"),
    Kind("mailchimp_key", r"\b[0-9a-f]{32}-us[0-9]{1,2}\b", "Mailchimp Developer, Quick start"),
    Kind("telegram_token", r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{32,34}", "Telegram Bot API, Authorizing your bot"),
    Kind("discord_token", r"\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}", "Discord Developer Docs, Authentication"),
    Kind("discord_webhook", r"discord(?:app)?\.com/api/webhooks/([0-9]{17,20}/[A-Za-z0-9_-]{60,72})", "Discord Developer Docs, Webhooks"),
    Kind("shopify_token", r"\bshp(?:at|ca|pa|ss|ua)_[A-Fa-f0-9]{32}", "Shopify Dev, Access tokens"),
    Kind("square_token", r"\bsq0(?:atp-[A-Za-z0-9_-]{22}|csp-[A-Za-z0-9_-]{43})", "Square Developer, Access tokens"),
    Kind("digitalocean_token", r"\bdo[opr]_v1_[a-f0-9]{64}", "DigitalOcean, Personal access tokens"),
    Kind("databricks_token", r"\bdapi[a-f0-9]{32}(?:-[0-9])?\b", "Databricks, Personal access tokens"),
    Kind("vault_token", r"\bhv[sbr]\.[A-Za-z0-9_-]{24,300}", "HashiCorp Vault, Token prefixes"),
    Kind("terraform_token", r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60,80}", "HCP Terraform, API tokens"),
    Kind("grafana_token", r"\bgl(?:sa|c)_[A-Za-z0-9+/=_]{32,400}", "Grafana, Service accounts"),
    Kind("newrelic_key", r"\bNRAK-[A-Z0-9]{27}", "New Relic Docs, API keys"),
    Kind("sentry_token", r"\bsntry[su]_[A-Za-z0-9+/=_-]{40,400}", "Sentry RFC 0091"),
    Kind("linear_key", r"\blin_api_[A-Za-z0-9]{32,48}", "Linear Developers, Personal API keys"),
    Kind("notion_token", r"\b(?:ntn_[A-Za-z0-9]{40,60}|secret_[A-Za-z0-9]{43})\b", "Notion Developers, Authorization"),
    Kind("figma_token", r"\bfigd_[A-Za-z0-9_-]{36,50}", "Figma, Personal access tokens"),
    Kind("postman_key", r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}", "Postman, API keys"),
    Kind("airtable_token", r"\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}", "Airtable, Personal access tokens"),
    Kind("atlassian_token", r"\bATATT3[A-Za-z0-9_=-]{100,250}", "Atlassian, API tokens"),
    Kind("supabase_key", r"\bsb(?:p_[a-f0-9]{40}|_secret_[A-Za-z0-9_-]{20,60})", "Supabase Docs, API keys"),
    Kind("age_key", r"\bAGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}", "age-encryption.org/v1"),
    Kind("jwt", r"\beyJ[A-Za-z0-9_-]{8,1000}\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", "RFC 7519; compact form RFC 7515, 7.1"),
)  # fmt: skip
