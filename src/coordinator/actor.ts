/** Who asks for a change, and from where: the audit log's first question. */
export type Actor = {
  /** "socket", "admin-token", "token:ID", "user:ID", "device:ID" or "coordinator". */
  readonly name: string;
  /** An IP address; empty on this machine. */
  readonly remote: string;
};

/** What the coordinator does of itself: an expiry, a clean-up. */
export const COORDINATOR: Actor = { name: "coordinator", remote: "" };
