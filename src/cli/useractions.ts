import * as z from "zod";
import { asFailure } from "../kit/failure.js";
import { formatDuration, type Millis } from "../kit/time.js";
import {
  invitation,
  type UserChange,
  type UserInfo,
  type UserRequest,
  userInfo,
  userRequest,
} from "../wire/identity.js";
import { parseWith } from "../wire/schema.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { renderTable } from "./table.js";

const userPage = z.object({ users: z.array(userInfo), next: z.string().optional() });

export async function listUsers(call: Call): Promise<Outcome> {
  const users: UserInfo[] = [];
  for (let cursor: string | undefined = ""; cursor !== undefined; ) {
    const query: string = cursor === "" ? "" : `?cursor=${encodeURIComponent(cursor)}`;
    const page: z.infer<typeof userPage> = await callCoordinator(call, userPage, "GET", `/users${query}`);
    users.push(...page.users);
    cursor = page.next;
  }
  const now = call.parts.clock.wall();
  const rows = users.map((user) => [user.login, user.role, user.displayName, signsInBy(user), presence(user, now)]);
  const none = "nobody yet; next: exitnode user invite <login> --role owner";
  const text = users.length === 0 ? none : renderTable([["LOGIN", "ROLE", "NAME", "SIGNS IN BY", "STATE"], ...rows]);
  return { value: { users }, text };
}

export async function addUser(call: Call): Promise<Outcome> {
  const user = await add(call);
  const next = `they sign in at your identity provider by that address, or by a passkey: exitnode user invite ${user.login}`;
  return { value: user, text: `${user.login} is ${named(user.role)}; ${next}` };
}

export async function inviteUser(call: Call): Promise<Outcome> {
  const login = loginOf(call);
  const role = call.options.role === undefined ? undefined : roleFrom(call.options.role);
  const invite = () => callCoordinator(call, invitation, "POST", `/users/${encodeURIComponent(login)}/invite`);
  const made = await invite().catch(async (error: unknown) => {
    if (asFailure(error).code !== "user-unknown") throw error;
    await add(call);
    return invite();
  });
  // Last: an invitation that is refused changes nothing. Who was added just now is that already.
  if (role !== undefined) await change(call, { role });
  const lifetime = formatDuration(made.expiresAtMs - call.parts.clock.wall());
  const is = role === undefined ? "" : `\n${made.login} is ${named(role)}`;
  const text = `${made.url}\n\nlets ${made.login} make a passkey, once, within ${lifetime}; send it to nobody else${is}`;
  return { value: { ...made, ...(role === undefined ? {} : { role }) }, text };
}

export async function giveRole(call: Call): Promise<Outcome> {
  const role = roleFrom(call.args[1]);
  const user = await change(call, { role });
  return {
    value: user,
    text: `${user.login} is ${named(user.role)} now; where they are signed in, they sign in again`,
  };
}

export async function disableUser(call: Call): Promise<Outcome> {
  const user = await change(call, { disabled: true });
  return { value: user, text: `${user.login} is shut out, and so are the devices that are theirs` };
}

export async function enableUser(call: Call): Promise<Outcome> {
  const user = await change(call, { disabled: false });
  return { value: user, text: `${user.login} may sign in again; on their devices: exitnode up` };
}

export async function forgetPasskeys(call: Call): Promise<Outcome> {
  const login = loginOf(call);
  await callCoordinator(call, z.unknown(), "DELETE", `/users/${encodeURIComponent(login)}/passkeys`);
  return { value: { forgotten: login }, text: `${login} has no passkey now; next: exitnode user invite ${login}` };
}

function add(call: Call): Promise<UserInfo> {
  const { role, displayName } = call.options;
  const wanted: UserRequest = parseWith(
    userRequest,
    {
      login: loginOf(call),
      ...(role === undefined ? {} : { role }),
      ...(displayName === undefined ? {} : { displayName }),
    },
    "what was asked for",
    "usage",
  );
  return callCoordinator(call, userInfo, "POST", "/users", wanted);
}

const change = (call: Call, wanted: UserChange): Promise<UserInfo> =>
  callCoordinator(call, userInfo, "PATCH", `/users/${encodeURIComponent(loginOf(call))}`, wanted);

const roleFrom = (given: unknown): UserInfo["role"] =>
  parseWith(userRequest.shape.role.unwrap(), given, "the role", "usage");
const loginOf = (call: Call): string => (call.args[0] ?? "").toLowerCase();
const named = (role: UserInfo["role"]): string => `${/^[ao]/.test(role) ? "an" : "a"} ${role}`;
const signsInBy = ({ issuer }: UserInfo): string => (issuer === undefined ? "passkey" : new URL(issuer).hostname);

function presence(user: UserInfo, now: Millis): string {
  if (user.disabledAtMs !== undefined) return "disabled";
  return user.lastSeenAtMs === undefined ? "never seen" : `seen ${formatDuration(now - user.lastSeenAtMs)} ago`;
}
