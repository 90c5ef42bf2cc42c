;; A component, which is another kind of guest than a module.
(component)
