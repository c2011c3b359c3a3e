package bootmedia

import (
	"net/http"
)

// Handler serves the files below the path prefix, which ends in a slash.
func (f *Files) Handler(prefix string) http.Handler {
	files := http.FileServerFS(f)
	return http.StripPrefix(prefix, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "boot files are read-only", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", Type(r.URL.Path))
		// They change when the server's medium or the catalog's root does.
		w.Header().Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	}))
}
