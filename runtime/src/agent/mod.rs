//! The pod agent: makes the pods of this node run as their objects say, and the objects say how the pods run.
