// The page of the API: Swagger UI, with the token that the console has kept for this tab, if there is one.
const TOKEN_KEY = "light-run.token";

// Swagger UI has colours for the dark, but follows a class, not the browser's preference.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
follow();
dark.addEventListener("change", follow);

const token = sessionStorage.getItem(TOKEN_KEY);

const ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // A token that is typed in here is kept in the page's memory alone, and nothing is told to anybody else.
  persistAuthorization: false,
  validatorUrl: null,
  requestInterceptor: (request) => {
    if (token && request.loadSpec) request.headers.Authorization = `Bearer ${token}`;
    return request;
  },
  onComplete: () => {
    if (token) ui.preauthorizeApiKey("bearer", token);
  },
});
dispatchEvent(new Event("page-drawn"));
