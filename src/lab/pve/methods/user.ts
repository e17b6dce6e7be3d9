import { hashPassword, newSecret, type Token, type User } from "../accounts.js";
import { may } from "../permission.js";
import { type Call, type Handlers, type Pve, text } from "../pve.js";
import { badParameters, failed } from "../refusal.js";

/** Users and their API tokens. */
export const userMethods: Handlers = {
  "GET /access/users": ({ pve, caller }) =>
    Object.entries(pve.accounts.users)
      .filter(
        ([userid]) => userid === caller.user || may(pve.accounts, caller, "/access/groups", "User.Modify", "Sys.Audit"),
      )
      .map(([userid, user]) => ({ userid, ...profile(user), "realm-type": userid.endsWith("@pam") ? "pam" : "pve" })),

  "GET /access/users/{userid}": ({ pve, params }) => {
    const { user } = knownUser(pve, params.userid);
    const tokens = Object.fromEntries(Object.entries(user.tokens).map(([name, token]) => [name, info(token)]));
    return { ...profile(user), ...(Object.keys(tokens).length === 0 ? {} : { tokens }) };
  },

  "POST /access/users": ({ pve, params }) => {
    const userid = String(params.userid);
    if (pve.accounts.users[userid] !== undefined) throw failed(`create user failed: user '${userid}' already exists`);
    const password = text(params, "password");
    if (password !== undefined && password.length < 8)
      throw badParameters({ password: "value must be at least 8 characters long" });
    const user: User = { enable: Number(params.enable ?? 1), expire: Number(params.expire ?? 0), tokens: {} };
    pve.accounts.users[userid] = {
      ...user,
      ...remarks(params),
      ...(password === undefined ? {} : { password: hashPassword(password) }),
    };
    pve.accounts.save();
    return null;
  },

  "PUT /access/users/{userid}": ({ pve, params }) => {
    const { user } = knownUser(pve, params.userid);
    if (params.enable !== undefined) user.enable = Number(params.enable);
    if (params.expire !== undefined) user.expire = Number(params.expire);
    Object.assign(user, remarks(params));
    pve.accounts.save();
    return null;
  },

  "DELETE /access/users/{userid}": ({ pve, params }) => {
    const { userid } = knownUser(pve, params.userid, "delete user failed: ");
    delete pve.accounts.users[userid];
    pve.accounts.dropGrantsTo((grant) => grant.ugid === userid || grant.ugid.startsWith(`${userid}!`));
    pve.accounts.save();
    return null;
  },

  "GET /access/users/{userid}/token": ({ pve, params }) =>
    Object.entries(knownUser(pve, params.userid).user.tokens).map(([tokenid, token]) => ({
      tokenid,
      ...info(token),
    })),

  "GET /access/users/{userid}/token/{tokenid}": (call) => info(knownToken(call).token),

  "POST /access/users/{userid}/token/{tokenid}": ({ pve, params }) => {
    const { userid, user } = knownUser(pve, params.userid);
    const tokenid = String(params.tokenid);
    if (user.tokens[tokenid] !== undefined) throw badParameters({ tokenid: "Token already exists." });
    const { secret, hash } = newSecret();
    const comment = text(params, "comment");
    user.tokens[tokenid] = {
      secretHash: hash,
      privsep: Number(params.privsep ?? 1),
      expire: Number(params.expire ?? 0),
      ...(comment === undefined ? {} : { comment }),
    };
    pve.accounts.save();
    // What was given comes back as text, the default as a number.
    const given = Object.entries(params).filter(([key]) => ["privsep", "expire", "comment"].includes(key));
    const echoed = Object.fromEntries(given.map(([key, value]) => [key, String(value)]));
    return { value: secret, "full-tokenid": `${userid}!${tokenid}`, info: { privsep: 1, ...echoed } };
  },

  "PUT /access/users/{userid}/token/{tokenid}": (call) => {
    const { pve, params } = call;
    const { token, userid, tokenid } = knownToken(call);
    if (params.privsep !== undefined) token.privsep = Number(params.privsep);
    if (params.expire !== undefined) token.expire = Number(params.expire);
    if (params.comment !== undefined) token.comment = String(params.comment);
    const fresh = params.regenerate === 1 ? newSecret() : undefined;
    if (fresh !== undefined) token.secretHash = fresh.hash;
    pve.accounts.save();
    if (fresh === undefined) return info(token);
    return { ...info(token), value: fresh.secret, "full-tokenid": `${userid}!${tokenid}` };
  },

  "DELETE /access/users/{userid}/token/{tokenid}": (call) => {
    const { user, userid, tokenid } = knownToken(call);
    delete user.tokens[tokenid];
    call.pve.accounts.dropGrantsTo((grant) => grant.ugid === `${userid}!${tokenid}`);
    call.pve.accounts.save();
    return null;
  },
};

function knownUser(pve: Pve, given: unknown, doing = ""): { userid: string; user: User } {
  const userid = String(given);
  const user = pve.accounts.users[userid];
  if (user === undefined) throw failed(`${doing}no such user ('${userid}')`);
  return { userid, user };
}

function knownToken({ pve, params }: Call): { userid: string; user: User; tokenid: string; token: Token } {
  const { userid, user } = knownUser(pve, params.userid);
  const tokenid = String(params.tokenid);
  const token = user.tokens[tokenid];
  if (token === undefined) throw failed(`no such token '${tokenid}' for user '${userid}'`);
  return { userid, user, tokenid, token };
}

function profile({ tokens: _, password: __, ...shown }: User): Omit<User, "tokens" | "password"> {
  return shown;
}

function info({ secretHash: _, ...shown }: Token): Omit<Token, "secretHash"> {
  return shown;
}

function remarks(params: Call["params"]): Partial<User> {
  const keys = ["comment", "email", "firstname", "lastname"].filter((key) => params[key] !== undefined);
  return Object.fromEntries(keys.map((key) => [key, String(params[key])]));
}
