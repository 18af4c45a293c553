/** The bastion's API, in the shape openapi-typescript generates; `npm run generate` replaces this file. */

export interface paths {
  "/login": { post: operations["login"] };
  "/logout": { post: operations["logout"] };
  "/me": { get: operations["me"] };
  "/me/password": { post: operations["change_password"] };
  "/assets": { get: operations["list_assets"] };
  "/assets/{id}": { get: operations["read_asset"]; patch: operations["update_asset"]; delete: operations["delete_asset"] };
  "/assets/{id}/tty/authorize": { get: operations["authorize"] };
  "/registrations": { get: operations["list_registrations"] };
  "/approve": { post: operations["approve"] };
  "/reject": { post: operations["reject"] };
  "/sessions": { get: operations["list_sessions"] };
  "/sessions/{id}": { get: operations["read_session"]; delete: operations["end_session"] };
  "/recordings": { get: operations["list_recordings"] };
  "/recordings/{session_id}": { get: operations["read_recording"] };
  "/users": { get: operations["list_users"]; post: operations["create_user"] };
  "/users/{id}": { patch: operations["update_user"] };
  "/tokens": { get: operations["list_tokens"]; post: operations["create_token"] };
  "/tokens/{id}": { delete: operations["delete_token"] };
  "/audit": { get: operations["list_audit"] };
  "/policies/active": { get: operations["active_policy"] };
  "/policies/simulate": { post: operations["simulate_policy"] };
}

type Json<T> = { headers: { [name: string]: unknown }; content: { "application/json": T } };
type Empty = { headers: { [name: string]: unknown }; content?: never };
type Body<T> = { content: { "application/json": T } };
type Query<T> = { query?: T; header?: never; path?: never; cookie?: never };
type Path<T, Q = never> = { query?: Q; header?: never; path: T; cookie?: never };
type None = { query?: never; header?: never; path?: never; cookie?: never };
type Page = { limit?: number; cursor?: string };

export interface components {
  schemas: {
    Me: {
      id: string;
      username: string;
      role: "admin" | "auditor" | "user";
      groups: string[];
      login: { created_at: string; expires_at: string } | null;
    };
    Access: { effect: "allow" | "deny" | "challenge"; code: string | null; detail: string | null };
    Asset: {
      id: string;
      hostname: string;
      labels: { [key: string]: string };
      proposed_labels: { [key: string]: string };
      status: "online" | "offline" | "maintenance" | "quarantined";
      last_heartbeat_at: string | null;
      version: string | null;
      /** Ids of users; absent but for admins. */
      allowed_users?: string[];
      run_as: string | null;
      static_info: { [key: string]: unknown } | null;
      dynamic_info: { [key: string]: unknown } | null;
      fingerprint: string;
      created_at: string;
      access: components["schemas"]["Access"];
    };
    AssetPage: { items: components["schemas"]["Asset"][]; next_cursor: string | null };
    AssetUpdate: {
      labels?: { [key: string]: string };
      allowed_users?: string[];
      status?: "maintenance" | "quarantined" | null;
      run_as?: string | null;
    };
    Ticket: {
      token: string;
      ws_url: string;
      expires_in: number;
      session: { command: string | null; cols: number; rows: number };
    };
    Waiting: { status: "waiting"; request_id: string };
    Registration: {
      id: string;
      client_id: string;
      hostname: string;
      fingerprint: string;
      labels: { [key: string]: string };
      static_info: { [key: string]: unknown } | null;
      version: string | null;
      status: "pending" | "approved" | "rejected" | "lapsed";
      key_changed: boolean;
      address: string;
      created_at: string;
      decided_at: string | null;
      decided_by: string | null;
      reason: string | null;
    };
    RegistrationPage: { items: components["schemas"]["Registration"][]; next_cursor: string | null };
    Approve: { id: string; fingerprint?: string; labels?: { [key: string]: string }; allowed_users?: string[] };
    Approved: { status: "approved"; asset: components["schemas"]["Asset"] };
    Reject: { id: string; reason?: string };
    Rejected: { status: "rejected" };
    UserRef: { id: string; username: string };
    AssetRef: { id: string; hostname: string };
    RecordingState: "recording" | "spooled" | "uploading" | "stored" | "failed";
    Session: {
      id: string;
      user: components["schemas"]["UserRef"];
      asset: components["schemas"]["AssetRef"];
      status: "connecting" | "active" | "detached" | "resuming" | "closed" | "error";
      end_reason: string | null;
      command: string | null;
      address: string;
      cols: number;
      rows: number;
      created_at: string;
      started_at: string | null;
      ended_at: string | null;
      exit_code: number | null;
      exit_signal: string | null;
      recording: components["schemas"]["RecordingState"] | null;
    };
    SessionPage: { items: components["schemas"]["Session"][]; next_cursor: string | null };
    Recording: {
      session_id: string;
      user: components["schemas"]["UserRef"];
      asset: components["schemas"]["AssetRef"];
      state: components["schemas"]["RecordingState"];
      reason: string | null;
      size: number | null;
      plain_size: number | null;
      sha256: string | null;
      /** Seconds. */
      duration: number | null;
      started_at: string;
      ended_at: string | null;
    };
    RecordingPage: { items: components["schemas"]["Recording"][]; next_cursor: string | null };
    User: {
      id: string;
      username: string;
      role: "admin" | "auditor" | "user";
      groups: string[];
      disabled: boolean;
      created_at: string;
      last_login_at: string | null;
    };
    UserPage: { items: components["schemas"]["User"][]; next_cursor: string | null };
    UserCreate: { username: string; password: string; role: "admin" | "auditor" | "user"; groups?: string[] };
    UserUpdate: {
      username?: string;
      password?: string;
      role?: "admin" | "auditor" | "user";
      groups?: string[];
      disabled?: boolean;
    };
    Token: {
      id: string;
      name: string;
      role: "admin" | "auditor" | "user";
      created_at: string;
      expires_at: string | null;
      last_used_at: string | null;
    };
    TokenPage: { items: components["schemas"]["Token"][]; next_cursor: string | null };
    TokenCreate: { name: string; role?: "admin" | "auditor" | "user"; expires_in_days?: number };
    NewToken: components["schemas"]["Token"] & { token: string };
    AuditEvent: {
      id: string;
      at: string;
      actor: { kind: string; id: string | null; name: string | null };
      action: string;
      target: { kind: string; id: string } | null;
      address: string | null;
      detail: { [key: string]: unknown };
    };
    AuditPage: { items: components["schemas"]["AuditEvent"][]; next_cursor: string | null };
    ActivePolicy: { version: number; document: { [key: string]: unknown }; comment: string | null; activated_at: string };
    Simulate: { user: string; asset: string; at?: string; ip?: string };
    TrailEntry: {
      policy: string;
      module: string;
      kind: string;
      verdict: string;
      code: string | null;
      text: string | null;
      micros: number;
      shadow: boolean;
    };
    Simulation: {
      effect: "allow" | "deny" | "challenge";
      code: string | null;
      trail: components["schemas"]["TrailEntry"][];
      obligations: { [key: string]: unknown };
    };
    Problem: {
      title: string;
      status: number;
      detail?: string;
      code: string;
      errors?: { path: string; detail: string }[];
    };
  };
}

type S = components["schemas"];

export interface operations {
  login: { parameters: None; requestBody: Body<{ username: string; password: string }>; responses: { 200: Json<S["Me"]> } };
  logout: { parameters: None; requestBody?: never; responses: { 204: Empty } };
  me: { parameters: None; requestBody?: never; responses: { 200: Json<S["Me"]> } };
  change_password: {
    parameters: None;
    requestBody: Body<{ current_password: string; new_password: string }>;
    responses: { 204: Empty };
  };
  list_assets: {
    parameters: Query<Page & { q?: string; status?: string; selector?: string }>;
    requestBody?: never;
    responses: { 200: Json<S["AssetPage"]> };
  };
  read_asset: { parameters: Path<{ id: string }>; requestBody?: never; responses: { 200: Json<S["Asset"]> } };
  update_asset: { parameters: Path<{ id: string }>; requestBody: Body<S["AssetUpdate"]>; responses: { 200: Json<S["Asset"]> } };
  delete_asset: { parameters: Path<{ id: string }>; requestBody?: never; responses: { 204: Empty } };
  authorize: {
    parameters: Path<{ id: string }, { cols?: number; rows?: number; command?: string; reason?: string; plain?: number }>;
    requestBody?: never;
    responses: { 200: Json<S["Ticket"]>; 202: Json<S["Waiting"]> };
  };
  list_registrations: {
    parameters: Query<Page & { status?: string }>;
    requestBody?: never;
    responses: { 200: Json<S["RegistrationPage"]> };
  };
  approve: { parameters: None; requestBody: Body<S["Approve"]>; responses: { 200: Json<S["Approved"]> } };
  reject: { parameters: None; requestBody: Body<S["Reject"]>; responses: { 200: Json<S["Rejected"]> } };
  list_sessions: {
    parameters: Query<Page & { user?: string; asset?: string; state?: string; from?: string; to?: string }>;
    requestBody?: never;
    responses: { 200: Json<S["SessionPage"]> };
  };
  read_session: { parameters: Path<{ id: string }>; requestBody?: never; responses: { 200: Json<S["Session"]> } };
  end_session: { parameters: Path<{ id: string }>; requestBody?: never; responses: { 204: Empty } };
  list_recordings: {
    parameters: Query<Page & { user?: string; asset?: string; from?: string; to?: string; q?: string }>;
    requestBody?: never;
    responses: { 200: Json<S["RecordingPage"]> };
  };
  read_recording: { parameters: Path<{ session_id: string }>; requestBody?: never; responses: { 200: Json<S["Recording"]> } };
  list_users: { parameters: Query<Page>; requestBody?: never; responses: { 200: Json<S["UserPage"]> } };
  create_user: { parameters: None; requestBody: Body<S["UserCreate"]>; responses: { 201: Json<S["User"]> } };
  update_user: { parameters: Path<{ id: string }>; requestBody: Body<S["UserUpdate"]>; responses: { 200: Json<S["User"]> } };
  list_tokens: { parameters: Query<Page>; requestBody?: never; responses: { 200: Json<S["TokenPage"]> } };
  create_token: { parameters: None; requestBody: Body<S["TokenCreate"]>; responses: { 201: Json<S["NewToken"]> } };
  delete_token: { parameters: Path<{ id: string }>; requestBody?: never; responses: { 204: Empty } };
  list_audit: {
    parameters: Query<Page & { actor?: string; action?: string; from?: string; to?: string }>;
    requestBody?: never;
    responses: { 200: Json<S["AuditPage"]> };
  };
  active_policy: { parameters: None; requestBody?: never; responses: { 200: Json<S["ActivePolicy"]> } };
  simulate_policy: { parameters: None; requestBody: Body<S["Simulate"]>; responses: { 200: Json<S["Simulation"]> } };
}
