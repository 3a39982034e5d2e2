"""Made-up secrets of every kind. They are put together here, so that no scanner of this repository takes them for real."""

from __future__ import annotations

import base64
import random
import string

LETTERS = string.ascii_letters + string.digits
LOWER_HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits
WORD = LETTERS + "_-"
BASE64 = LETTERS + "+/"


class Maker:
    """Makes secrets from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def of(self, alphabet: str, size: int) -> str:
        return "".join(self._random.choices(alphabet, k=size))

    def jwt(self) -> str:
        def part(text: str) -> str:
            return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

        head, body = part('{"alg":"HS256","typ":"JWT"}'), part(f'{{"sub":"{self.of(LETTERS, 12)}","iat":1}}')
        return f"{head}.{body}.{self.of(WORD, 43)}"

    def private_key(self, name: str = "RSA ", rows: int = 25, end: str = "\n") -> str:
        lines = [self.of(BASE64, 64) for _ in range(rows)] + [self.of(BASE64, 30) + "=="]
        return end.join([f"-----BEGIN {name}PRIVATE KEY-----", *lines, f"-----END {name}PRIVATE KEY-----"])

    def samples(self) -> list[tuple[str, str, str]]:
        """`(kind, text, secret in it)` of every kind, some in several spellings."""
        of = self.of
        pairs = [
            ("aws_access_key", "AKIA" + of(UPPER, 16)),
            ("aws_access_key", "ASIA" + of(UPPER, 16)),
            ("gcp_api_key", "AIza" + of(WORD, 35)),
            ("gcp_oauth_secret", "GOCSPX-" + of(WORD, 28)),
            ("gcp_access_token", "ya29." + of(WORD, 120)),
            ("azure_client_secret", of(LETTERS, 3) + "8Q~" + of(LETTERS, 34)),
            ("azure_devops_token", of(LETTERS, 76) + "AZDO" + of(LETTERS, 4)),
            ("github_token", "ghp_" + of(LETTERS, 36)),
            ("github_token", "ghs_" + of(LETTERS, 36)),
            ("github_token", "github_pat_" + of(LETTERS, 22) + "_" + of(LETTERS, 59)),
            ("gitlab_token", "glpat-" + of(WORD, 20)),
            (
                "slack_token",
                "xoxb-" + of(string.digits, 12) + "-" + of(string.digits, 12) + "-" + of(LETTERS, 24),
            ),
            (
                "slack_token",
                "xapp-1-" + of(UPPER, 11) + "-" + of(string.digits, 13) + "-" + of(LOWER_HEX, 64),
            ),
            ("stripe_key", "sk_" + "live_" + of(LETTERS, 24)),
            ("stripe_webhook_secret", "whsec_" + of(LETTERS, 32)),
            ("anthropic_key", "sk-ant-api03-" + of(WORD, 93) + "AA"),
            ("openrouter_key", "sk-or-v1-" + of(LOWER_HEX, 64)),
            ("openai_key", "sk-proj-" + of(WORD, 74) + "T3BlbkFJ" + of(WORD, 74)),
            ("openai_key", "sk-" + of(LETTERS, 20) + "T3BlbkFJ" + of(LETTERS, 20)),
            ("huggingface_token", "hf_" + of(string.ascii_letters, 34)),
            ("groq_key", "gsk_" + of(LETTERS, 52)),
            ("xai_key", "xai-" + of(LETTERS, 80)),
            ("replicate_token", "r8_" + of(LETTERS, 37)),
            ("perplexity_key", "pplx-" + of(LETTERS, 48)),
            ("npm_token", "npm_" + of(LETTERS, 36)),
            ("pypi_token", "pypi-AgEIcHlwaS5vcmc" + of(WORD, 120)),
            ("rubygems_key", "rubygems_" + of(LOWER_HEX, 48)),
            ("docker_token", "dckr_pat_" + of(WORD, 27)),
            ("twilio_key", "SK" + of(LOWER_HEX, 32)),
            ("sendgrid_key", "SG." + of(WORD, 22) + "." + of(WORD, 43)),
            ("mailgun_key", "key-" + of(LOWER_HEX, 32)),
            ("mailchimp_key", of(LOWER_HEX, 32) + "-us12"),
            ("telegram_token", of("123456789", 9) + ":AA" + of(WORD, 33)),
            ("discord_token", "M" + of(LETTERS, 23) + "." + of(LETTERS, 6) + "." + of(WORD, 27)),
            ("shopify_token", "shpat_" + of(LOWER_HEX, 32)),
            ("square_token", "sq0atp-" + of(WORD, 22)),
            ("digitalocean_token", "dop_v1_" + of(LOWER_HEX, 64)),
            ("databricks_token", "dapi" + of(LOWER_HEX, 32)),
            ("vault_token", "hvs." + of(LETTERS, 90)),
            ("terraform_token", of(LETTERS, 14) + ".atlasv1." + of(WORD, 67)),
            ("grafana_token", "glsa_" + of(LETTERS, 32) + "_" + of(LOWER_HEX, 8)),
            ("newrelic_key", "NRAK-" + of(UPPER, 27)),
            ("sentry_token", "sntrys_" + of(BASE64, 80)),
            ("linear_key", "lin_api_" + of(LETTERS, 40)),
            ("notion_token", "ntn_" + of(LETTERS, 46)),
            ("figma_token", "figd_" + of(WORD, 40)),
            ("postman_key", "PMAK-" + of(LOWER_HEX, 24) + "-" + of(LOWER_HEX, 34)),
            ("airtable_token", "pat" + of(LETTERS, 14) + "." + of(LOWER_HEX, 64)),
            ("atlassian_token", "ATATT3xFfGF0" + of(WORD, 170) + "=" + of(UPPER, 8)),
            ("supabase_key", "sbp_" + of(LOWER_HEX, 40)),
            ("age_key", "AGE-SECRET-KEY-1" + of("023456789ACDEFGHJKLMNPQRSTUVWXYZ", 58)),
            ("jwt", self.jwt()),
        ]
        framed = [
            ("aws_secret_key", 'aws_secret_access_key = "{}"', of(BASE64, 40)),
            ("azure_storage_key", "AccountName=x;AccountKey={};EndpointSuffix=core", of(BASE64, 86) + "=="),
            ("azure_shared_key", "SharedAccessKeyName=Root;SharedAccessKey={}", of(BASE64, 43) + "="),
            ("azure_sas", "https://x.blob.core.windows.net/a?sv=2024&sig={}", of(LETTERS, 43) + "%3D"),
            ("slack_webhook", "https://hooks.slack.com/services/{}", f"T{of(UPPER, 8)}/B{of(UPPER, 8)}/{of(LETTERS, 24)}"),
            ("discord_webhook", "https://discord.com/api/webhooks/{}", of("123456789", 18) + "/" + of(WORD, 68)),
            ("url_password", "postgres://bob:{}@db.internal:5432/app", of(LETTERS, 14) + "!9"),
            ("authorization", 'curl -H "Authorization: Bearer {}"', of(LETTERS, 24) + "a1"),
            ("assigned_secret", "api_key: '{}'", of(LETTERS, 30) + "7b"),
            ("assigned_secret", "CLIENT_SECRET={}", of(LETTERS, 30) + "7b"),
            ("assigned_secret", '{{"access_token": "{}"}}', of(LETTERS, 30) + "7b"),
            ("password", 'password = "{}"', "q7" + of(LETTERS, 10) + "!"),
            ("password", "パスワードは「{}」です", "q7" + of(LETTERS, 10) + "!"),
        ]  # fmt: skip
        made = [(kind, f"{secret} を使う", secret) for kind, secret in pairs]
        made += [(kind, f"トークン:{secret}", secret) for kind, secret in pairs]
        made += [(kind, frame.format(secret), secret) for kind, frame, secret in framed]
        for name, end in (("RSA ", "\n"), ("", "\\n"), ("OPENSSH ", "\r\n"), ("ENCRYPTED ", "\n> ")):
            key = self.private_key(name, end=end)
            made.append(("private_key", f"key: {key} done", key))
        return made
