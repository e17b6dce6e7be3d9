import { SCOPES, type Scope } from "../../wire/adminapi.js";
import type { MemberRole } from "../../wire/identity.js";

/** Who may hand out authority over others: an administrator could make an owner of themselves. */
const OWNERS_ONLY: readonly Scope[] = ["users:write"];

/** With these a member manages what is theirs: devices, the keys that let more of them in, tokens. */
const OF_A_MEMBER: readonly Scope[] = [
  "status:read",
  "devices:read",
  "devices:write",
  "keys:read",
  "keys:write",
  "tokens:read",
  "tokens:write",
];

/** The scopes of a role. */
export function scopesOf(role: MemberRole): readonly Scope[] {
  switch (role) {
    case "owner":
      return SCOPES;
    case "admin":
      return SCOPES.filter((scope) => !OWNERS_ONLY.includes(scope));
    case "auditor":
      return SCOPES.filter((scope) => scope.endsWith(":read"));
    case "member":
      return OF_A_MEMBER;
  }
}

/** Whether a person of this role sees and changes nothing but what is theirs. */
export const isConfined = (role: MemberRole): boolean => role === "member";
