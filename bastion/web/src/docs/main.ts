/** Swagger UI on the live spec. Same origin, so the login's cookie goes with every request; nothing is sent elsewhere. */
import 'swagger-ui-dist/swagger-ui.css';
import '../app.css';
import './docs.css';
import '../lib/theme.svelte';
import SwaggerUI from 'swagger-ui-dist/swagger-ui-es-bundle.js';

SwaggerUI({
  url: '/openapi.json',
  domNode: document.getElementById('app'),
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: 'list',
  defaultModelsExpandDepth: 0,
  filter: true,
  persistAuthorization: false,
  tryItOutEnabled: false,
  validatorUrl: null,
  requestInterceptor: (request: { credentials?: string }) => ({ ...request, credentials: 'same-origin' }),
});
