"""The words by which failures are known: a table, read by `blame`.

Each row names a kind of failure, who failed, how it is recognised, and where the words come from.

`names` are compared with the whole words of a status (`exit_status`, `status`, `outcome`, `error_type`) that an agent
recorded; `texts` are regular expressions that are searched for in a recorded `error` and in the end of the log of an
agent that did not come to a result. The first row that matches counts: what the agent did itself stands first, because
its message may quote the endpoint's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Party(StrEnum):
    """Who failed. What the endpoint or the infrastructure did is tried again and is never a result."""

    AGENT = "agent"
    ENDPOINT = "endpoint"
    INFRA = "infra"


@dataclass(frozen=True, slots=True)
class Signature:
    """One kind of failure."""

    kind: str
    party: Party
    names: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    source: str = ""


SIGNATURES = (
    Signature(
        "context window",
        Party.AGENT,
        names=(
            "ContextWindowExceededError",
            "LLMContextWindowExceedError",
            "LLMContextWindowExceededError",
            "ContextLengthExceeded",
            "context_length_exceeded",
            "exit_context",
            "prompt_too_long",
            "request_too_large",
        ),
        texts=(
            r"ContextWindowExceed(?:ed)?Error",
            r"context_length_exceeded",
            r"maximum context length",
            r"context window (?:is )?(?:exceeded|full)",
            r"prompt is too long",
            r"input is too long for requested model",
        ),
        source="litellm and OpenHands exceptions; OpenAI error code; Anthropic and Bedrock messages; SWE-agent",
    ),
    Signature(
        "limit of the agent",
        Party.AGENT,
        names=(
            "LimitsExceeded",
            "TimeExceeded",
            "RepeatedFormatError",
            "FormatError",
            "exit_cost",
            "exit_format",
            "exit_forfeit",
            "exit_command_timeout",
            "exit_total_execution_time",
            "exit_error",
            "AgentStuckInLoopError",
            "MaxIterationsReached",
            "ContentPolicyViolationError",
            "ContentFilterFinishReasonError",
            "LengthFinishReasonError",
        ),
        texts=(r"AgentStuckInLoopError", r"reached maximum (?:iteration|budget)", r"\bLimitsExceeded\b"),
        source="mini-swe-agent, SWE-agent and OpenHands exit statuses; openai and litellm exceptions",
    ),
    Signature(
        "quota",
        Party.ENDPOINT,
        names=(
            "insufficient_quota",
            "billing_error",
            "billing_hard_limit_reached",
            "billing_not_active",
            "BudgetExceededError",
            "ServiceQuotaExceededException",
            "STATUS$ERROR_LLM_OUT_OF_CREDITS",
        ),
        texts=(
            r"insufficient_quota",
            r"exceeded your current quota",
            r"credit balance is too low",
            r"billing_(?:error|hard_limit_reached|not_active)",
            r"BudgetExceededError",
            r"ServiceQuotaExceededException",
            r"ERROR_LLM_OUT_OF_CREDITS",
            r"\b402\b.{0,20}Payment Required",
        ),
        source="OpenAI error codes; Anthropic error types and messages; litellm; Bedrock; OpenHands",
    ),
    Signature(
        "rate limit",
        Party.ENDPOINT,
        names=(
            "RateLimitError",
            "rate_limit_error",
            "rate_limit_exceeded",
            "ThrottlingException",
            "TooManyRequestsException",
            "RESOURCE_EXHAUSTED",
            "ResourceExhausted",
        ),
        texts=(
            r"RateLimitError",
            r"rate_limit_(?:error|exceeded)",
            r"rate limit (?:reached|exceeded|hit)",
            r"Too Many Requests",
            r"(?:error code|status(?: code)?|HTTP)\W{0,3}429\b",
            r"ThrottlingException",
            r"TooManyRequestsException",
            r"RESOURCE_EXHAUSTED|\bResourceExhausted\b",
        ),
        source="litellm, openai and anthropic exceptions and error types; Bedrock; Google API status",
    ),
    Signature(
        "authentication",
        Party.ENDPOINT,
        names=(
            "AuthenticationError",
            "PermissionDeniedError",
            "authentication_error",
            "permission_error",
            "invalid_api_key",
            "ExpiredTokenException",
            "UNAUTHENTICATED",
            "PERMISSION_DENIED",
            "STATUS$ERROR_LLM_AUTHENTICATION",
        ),
        texts=(
            r"AuthenticationError",
            r"authentication_error",
            r"invalid_api_key|Incorrect API key|invalid x-api-key",
            r"(?:openai|anthropic|litellm)\S*PermissionDeniedError",
            r"(?:error code|status(?: code)?|HTTP)\W{0,3}40[13]\b",
            r"\b401\b.{0,20}Unauthorized",
            r"ExpiredTokenException",
            r"ERROR_LLM_AUTHENTICATION",
        ),
        source="litellm, openai and anthropic exceptions and error types; Bedrock; Google API status; OpenHands",
    ),
    Signature(
        "endpoint unavailable",
        Party.ENDPOINT,
        names=(
            "InternalServerError",
            "ServiceUnavailableError",
            "BadGatewayError",
            "OverloadedError",
            "overloaded_error",
            "api_error",
            "APIError",
            "APIStatusError",
            "APIResponseValidationError",
            "MidStreamFallbackError",
            "LLMNoResponseError",
            "server_error",
            "ModelNotReadyException",
            "UNAVAILABLE",
            "exit_api",
            "STATUS$ERROR_LLM_SERVICE_UNAVAILABLE",
            "STATUS$ERROR_LLM_INTERNAL_SERVER_ERROR",
        ),
        texts=(
            r"(?:openai|anthropic|litellm)\S*(?:InternalServerError|ServiceUnavailableError|BadGatewayError|APIError)",
            r"\bServiceUnavailableError\b|\bLLMNoResponseError\b",
            r"overloaded_error|OverloadedError",
            r"(?:error code|status(?: code)?|HTTP)\W{0,3}5\d\d\b",
            r"\b50[0234]\b.{0,5}(?:Internal Server Error|Bad Gateway|Service Unavailable|Gateway Time-?out)",
            r"ModelNotReadyException",
            r"ERROR_LLM_(?:SERVICE_UNAVAILABLE|INTERNAL_SERVER_ERROR)",
        ),
        source="litellm, openai and anthropic exceptions and error types; Bedrock; Google API; SWE-agent; OpenHands",
    ),
    Signature(
        "connection",
        Party.ENDPOINT,
        names=(
            "APIConnectionError",
            "APITimeoutError",
            "Timeout",
            "timeout_error",
            "DeadlineExceededError",
            "DEADLINE_EXCEEDED",
            "ConnectError",
            "ConnectTimeout",
            "ReadTimeout",
            "ReadError",
            "RemoteProtocolError",
            "ConnectionError",
            "ConnectionRefusedError",
            "ConnectionResetError",
            "ClientConnectorError",
        ),
        texts=(
            r"APIConnectionError|APITimeoutError|litellm\S*\.Timeout",
            r"\bConnect(?:ion)?(?:Refused|Reset)?Error\b|\bConnect(?:ion)?Timeout(?:Error)?\b|\bReadTimeout\b",
            r"\bRemoteProtocolError\b|\bClientConnectorError\b|\bNewConnectionError\b",
            r"Max retries exceeded with url",
            r"\bE(?:CONNREFUSED|CONNRESET|NOTFOUND|TIMEDOUT|HOSTUNREACH|AI_AGAIN)\b|socket hang up",
            r"Connection (?:refused|reset by peer|aborted)",
            r"Temporary failure in name resolution|Name or service not known|Could not resolve host",
            r"Network is unreachable|No route to host",
        ),
        source="openai, anthropic and litellm exceptions; requests, httpx, aiohttp and Node.js errors; libc messages",
    ),
    Signature(
        "out of disk",
        Party.INFRA,
        names=("ENOSPC", "NoSpace"),
        texts=(r"No space left on device", r"\bENOSPC\b", r"Disk quota exceeded|\bEDQUOT\b"),
        source="libc messages and errno names",
    ),
    Signature(
        "environment",
        Party.INFRA,
        names=(
            "exit_environment_error",
            "AgentRuntimeError",
            "AgentRuntimeBuildError",
            "AgentRuntimeDisconnectedError",
            "AgentRuntimeNotFoundError",
            "AgentRuntimeNotReadyError",
            "AgentRuntimeTimeoutError",
            "AgentRuntimeUnavailableError",
            "STATUS$ERROR_RUNTIME_DISCONNECTED",
        ),
        texts=(r"\bAgentRuntime\w*Error\b", r"ERROR_RUNTIME_DISCONNECTED", r"\bexit_environment_error\b"),
        source="SWE-agent exit statuses; OpenHands exceptions",
    ),
)

# What an agent records once it has come to its own end, with or without a change: SWE-agent (`submitted`),
# mini-swe-agent (`Submitted`), OpenHands (`finished`), and the usual words of others. Compared in lower case.
SUBMITTED = frozenset(
    (
        "submitted",
        "submit",
        "finished",
        "complete",
        "completed",
        "done",
        "success",
        "succeeded",
        "no_change",
        "no_changes",
        "no changes",
        "nothing_to_submit",
        "empty_patch",
    )
)
# Fields that say the same as a truth value.
SUBMITTED_FLAGS = ("submitted", "finished", "no_change", "no_changes")
