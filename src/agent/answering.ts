import { asFailure, Failure } from "../kit/failure.js";
import { type AgentRequest, type AgentValue, agentRequest } from "../wire/agentsocket.js";

/** One request of the local socket, and what is said to it, whatever becomes of it. */
export async function answering(value: unknown, act: (request: AgentRequest) => Promise<AgentValue>): Promise<unknown> {
  const request = agentRequest.safeParse(value);
  if (!request.success) return failed(new Failure("request-invalid", "the agent does not know that request"));
  try {
    return { ok: true, value: (await act(request.data)) ?? null };
  } catch (error) {
    return failed(asFailure(error));
  }
}

const failed = (failure: Failure): unknown => ({ ok: false, error: failure.toJSON() });
