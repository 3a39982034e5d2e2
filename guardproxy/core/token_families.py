"""Control tokens of model families: facts of their tokenizers. `upstream.special_tokens` adds those of others."""

from __future__ import annotations

FAMILY_TOKENS = (
    # Llama 2 and Mistral; Gemma; LLaVA and friends; tool and thinking tags of Qwen and DeepSeek.
    "<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
    "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<bos>", "<eos>", "<pad>", "<unk>", "<mask>",
    "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>",
    "<image>", "</image>", "<video>", "<audio>", "<img>", "</img>", "<IMG_CONTEXT>", "<row_1_col_1>",
    "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<think>", "</think>",
    "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>",
)  # fmt: skip
"""Control tokens of common model families that no form covers; found in any case."""

EXACT_TOKENS = (
    # Mistral from version 7 on.
    "[THINK]", "[/THINK]", "[ARGS]", "[CALL_ID]", "[TOOL_CONTENT]", "[/TOOL_CONTENT]", "[AUDIO]", "[BEGIN_AUDIO]",
    "[TRANSCRIBE]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]",
    # GLM; MiniMax; Cohere; Nemotron; MiniCPM; Molmo; DeepSeek and its kin; StarCoder and Granite.
    "[gMASK]", "[sMASK]", "[MASK]", "<sop>", "<eop>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
    "]~!b[", "]~b]", "[e~[", "<minimax:tool_call>", "</minimax:tool_call>",
    "<EOS_TOKEN>", "<BOS_TOKEN>", "<CLS>", "<SEP>", "<TOOLCALL>", "</TOOLCALL>", "<AVAILABLE_TOOLS>",
    "</AVAILABLE_TOOLS>", "<image_id>", "</image_id>", "<slice>", "</slice>", "<unit>", "</unit>", "<quad>", "</quad>",
    "<im_start>", "<im_end>", "<im_patch>", "<im_col>", "<boi>", "<eoi>", "<image_placeholder>", "<image_atom>",
    "\uff5cDSML\uff5c", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<gh_stars>", "<issue_start>", "<issue_comment>",
    "<issue_closed>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<jupyter_script>",
    "<empty_output>", "<repo_name>", "<file_sep>",
    "<end_of_sentence>", "<begin_of_sentence>", "<begin_of_image>", "<begin_of_audio>", "<end_of_audio>",
)  # fmt: skip
"""Tokens that ordinary text has in another case, such as `[args]`: found as they are written only."""

FORMS = (
    # `<|im_end|>`, DeepSeek's full-width bars, and Gemma 4's halves `<|turn>` and `<turn|>`.
    r"<[|\uff5c][^<>\s]{1,64}>",
    r"<[^<>\s|\uff5c]{1,64}[|\uff5c]>",
    r"</?seed:[a-z_]{1,40}>",
    r"<(?:unused|extra_id_|SPECIAL_|reserved_|mask:)[0-9]{1,5}>",
    r"<(?:loc|seg)[0-9]{3,4}>",
    r"<row_[0-9]{1,2}_col_[0-9]{1,2}>",
    r"\[UNUSED_TOKEN_[0-9]{1,4}\]",
)
"""Regular expressions of whole families; bounded and without nested repeats, so linear on any text."""
