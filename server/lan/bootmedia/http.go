package bootmedia

import (
	"bytes"
	"net/http"
	"time"
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
		if q := r.URL.Query(); r.URL.Path == Script && q.Has("mac") && f.o.Machines != nil {
			data, err := f.machineScript(r.Context(), q.Get("mac"), q.Get("uuid"))
			if err != nil {
				http.Error(w, "the menu of this machine could not be made; the server's log says why", http.StatusInternalServerError)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			return
		}
		files.ServeHTTP(w, r)
	}))
}
